"""The audit log of a cluster: one chain in a Redis or Valkey, appended by any number of processes.

    records   stream: entry `SEQ-0` holds the line of record SEQ (`audit_chain.py`), as a file would
    head      hash: number and hash of the record that was written last
    base      hash: the record before the oldest one, once some were removed
    followed  hash: by source, how far the records have come with what it tells

Lines are made by whoever writes them, since a script has no SHA-256. One script appends them all or none, and
only to the very head that they were made for: two writers cannot both follow the same record, and who is too
late makes the lines anew. Each append leaves a mark of its own beside its lines: after a lost answer it is
found by that, and no record is there twice. Records of what a source tells by numbered events say in the same
step how far they come with it, and are refused where another process has come further. What was appended
is on the store's disk when it is told of, where the store has an append-only file (`WAITAOF`); without one a
line of the log says so once.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from phoenix_orch.kernel.errors import Conflict, Invalid, PhoenixError, Retryable, Terminal
from phoenix_orch.runtime.valkey_client import connect_blocking, translated
from phoenix_orch.security.audit_chain import (
    GENESIS,
    Entry,
    Fault,
    FaultKind,
    Link,
    Record,
    Walk,
    decoded,
    encoded,
)
from phoenix_orch.security.audit_log import PRUNE, Place, Verified

PLACE = "store"
"""Stands where a file's name does."""
TRIES = 50
"""Times that lines are made anew because others were faster."""
ON_DISK = 4000
"""Milliseconds that an append waits for the store's disk; one that syncs every second takes up to that."""
_PAGE = 1000
_APPEND = """
local records, head = KEYS[1], KEYS[2]
local seq = tonumber(ARGV[1])
local there = redis.call('HMGET', head, 'seq', 'hash')
local at, hash = tonumber(there[1] or '0'), there[2] or ''
local newest = redis.call('XREVRANGE', records, '+', '-', 'COUNT', 1)[1]
local last = newest and tonumber(string.match(newest[1], '^%d+')) or 0
if last ~= at and not (last == 0 and at == tonumber(redis.call('HGET', KEYS[3], 'seq') or '-1')) then
  return {'CUT', tostring(at), hash, tostring(last)}
end
if at ~= seq or hash ~= ARGV[2] then
  local id = string.format('%.0f-0', seq + 1)
  local found = redis.call('XRANGE', records, id, id)[1]
  if not found or found[2][4] ~= ARGV[4] then return {'MOVED', tostring(at), hash} end
  redis.call('HSET', head, 'seq', tostring(there[1]))
  return {'DONE'}
end
if ARGV[5] ~= '' then
  local come = redis.call('HGET', KEYS[4], ARGV[5]) or ''
  if come ~= ARGV[6] then return {'FURTHER', come} end
  redis.call('HSET', KEYS[4], ARGV[5], ARGV[7])
end
for i = 8, #ARGV do
  redis.call('XADD', records, string.format('%.0f-0', seq + i - 7), 'line', ARGV[i], 'by', ARGV[4])
end
redis.call('HSET', head, 'seq', string.format('%.0f', seq + #ARGV - 7), 'hash', ARGV[3])
return {'DONE'}
"""
_REMOVE = """
local seq = string.match(ARGV[1], '^%d+$')
redis.call('HSET', KEYS[3], 'seq', seq, 'hash', ARGV[2])
return redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f-0', tonumber(seq) + 1))
"""

_log = structlog.get_logger("phoenix.audit")


@dataclass(frozen=True, slots=True)
class Come:
    """How far some records come with what a source tells."""

    source: str
    before: str
    """How far those before them have come; empty: nothing of it is recorded."""
    now: str


class SharedAuditLog:
    """As `AuditLog`; calls block for as long as the store takes: not for an event loop."""

    def __init__(self, server: Redis | str, *, prefix: str) -> None:
        """`server`: a URL, or a client for any number of threads. `prefix`: of all its keys.

        Raises Invalid for what is no URL of a store.
        """
        self._client = connect_blocking(server) if isinstance(server, str) else server
        self._keys = [f"{prefix}{name}" for name in ("records", "head", "base", "followed")]
        self._records, self._head, self._base, self._followed = self._keys
        self._seen = GENESIS
        self._durable = True

    # -- writing -----------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry], come: Come | None = None) -> list[Record]:
        """In the store when it returns, in this order and beside each other, and on its disk.

        `come`: how far they come with what is followed; Conflict where somebody else has come further.
        Raises Retryable where the store does not take them (it may have taken them all the same, where its
        answer was lost), Terminal where what was written last is no longer there.
        """
        link = self.last()
        for _ in range(TRIES):
            lines, end = _lines(entries, link)
            answer = self._appended(link, end, lines, come)
            if answer is None:
                self._seen = end
                return [decoded(line) for line in lines]
            link = answer
        raise Retryable("others write into the audit log all the time", remedy="try it again")

    def _appended(self, after: Link, end: Link, lines: Sequence[bytes], come: Come | None) -> Link | None:
        """None: they are there; else the head that they have to follow."""
        given: list[Any] = [after.seq, after.hash if after.seq else "", end.hash, secrets.token_hex(8)]
        given += ["", "", ""] if come is None else [come.source, come.before, come.now]
        given += [line[:-1] for line in lines]
        try:
            how, *rest = self._sent(given)
        except Retryable:  # where the answer was lost, what is done already is seen
            how, *rest = self._sent(given)
        if how == b"CUT":
            at, _, last = (one.decode() for one in rest)
            raise Terminal(
                f"the audit log in the store ends with record {last}, and had come to {at}",
                remedy="`phoenix audit verify` tells what is left; keep the keys, and rename them",
            )
        if how == b"FURTHER":
            raise Conflict(
                f"the audit log has come to {rest[0].decode() or 'nothing'} with {come and come.source}",
                remedy="another replica records it: nothing is left to do",
            )
        if how == b"DONE":
            return None
        return self._not_behind(Link(int(rest[0]), rest[1].decode() or GENESIS.hash))

    def _not_behind(self, link: Link) -> Link:
        """Raises Terminal where the store has forgotten what this process was told."""
        if link.seq < self._seen.seq:
            raise Terminal(
                f"the audit log in the store ends with record {link.seq}, and had come to {self._seen.seq}",
                remedy="the store has lost it: bring its copy back; or note it, and start the pods anew",
            )
        return link

    def _sent(self, given: Sequence[Any]) -> list[bytes]:
        """The script's answer, once what it wrote is on the store's disk. One connection does both: the
        store waits for what came by that one."""
        with self._answered(), self._client.pipeline(transaction=False) as pipe:
            pipe.eval(_APPEND, len(self._keys), *self._keys, *given)
            if self._durable:
                pipe.execute_command("WAITAOF", 1, 0, ON_DISK)  # type: ignore[no-untyped-call]
            answer, *synced = pipe.execute(raise_on_error=False)
            if isinstance(answer, Exception):
                raise answer
            found: list[bytes] = answer
            if found[0] == b"DONE" and synced:
                self._expect_on_disk(synced[0])
            return found

    def _expect_on_disk(self, answer: Any) -> None:
        if isinstance(answer, ResponseError):
            self._durable = False
            _log.warning(
                "the store cannot say that a record is on its disk",
                remedy="Valkey, or Redis 7.2 or newer, with `appendonly yes`",
            )
        elif isinstance(answer, Exception):
            raise answer
        elif not answer[0]:
            raise Retryable(
                "the store took records and does not say that they are on its disk",
                remedy="look at its disk; do not repeat what was asked: it is in the audit log",
            )

    def prune(self, before: datetime, entry: Entry) -> int:
        """Remove the oldest records, of which every one is older; the number of those that went.

        `entry` says who asks, and is recorded with where the log begins then. The newest record stays.
        """
        old = self._old(before)
        if old is None:
            return 0
        begins = {"seq": old.seq, "hash": old.hash}
        self.append([replace(entry, action=PRUNE, after={"begins": begins})])
        with self._answered():
            return int(self._client.eval(_REMOVE, len(self._keys), *self._keys, str(old.seq), old.hash))

    def prunable(self, before: datetime) -> int:
        """How many records `prune` would remove."""
        old = self._old(before)
        return old.seq - self._begins().seq if old is not None else 0

    def _old(self, before: datetime) -> Link | None:
        found: Link | None = None
        last = self.last().seq
        for record in self.after(0):
            if record.at >= before or record.seq == last:
                break
            found = Link(record.seq, record.hash)
        return found

    # -- reading -----------------------------------------------------------------------------------

    def newest(
        self,
        limit: int,
        wanted: Callable[[Record], bool] = lambda _: True,
        *,
        before: int | None = None,
    ) -> list[Record]:
        """The newest `limit` records that are wanted, of those with a number below `before`; oldest first."""
        found: list[Record] = []
        end = "+" if before is None else f"({before}-0"
        while True:
            with self._answered():
                page: Any = self._client.xrevrange(self._records, end, "-", count=_PAGE)
            for at, fields in page:
                record = _readable(fields)
                if record is not None and wanted(record):
                    found.append(record)
                    if len(found) == limit:
                        return found[::-1]
                end = f"({at.decode()}"
            if len(page) < _PAGE:
                return found[::-1]

    def after(self, seq: int) -> Iterator[Record]:
        """All records with a higher number that can be read, oldest first; memory for a page at a time."""
        for fields in self._pages(seq):
            record = _readable(fields)
            if record is not None:
                yield record

    def _pages(self, seq: int) -> Iterator[dict[bytes, bytes]]:
        begin = f"({seq}-0" if seq else "-"
        while True:
            with self._answered():
                page: Any = self._client.xrange(self._records, begin, "+", count=_PAGE)
            for at, fields in page:
                yield fields
                begin = f"({at.decode()}"
            if len(page) < _PAGE:
                return

    def followed(self) -> dict[str, str]:
        """How far the records have come with each source."""
        with self._answered():
            found: Any = self._client.hgetall(self._followed)
        return {source.decode(): come.decode() for source, come in found.items()}

    def last(self) -> Link:
        """The end of what was appended and told. Raises Terminal where the store has forgotten some of it."""
        return self._not_behind(self._link(self._head))

    def verify(self, noted: Link | None = None) -> Verified:
        """Walk over everything there is; others may append meanwhile.

        `noted`: a number and hash that were noted elsewhere earlier, and have to be in it. Raises Invalid
        where that was pruned.
        """
        head, base = self._link(self._head), self._begins()
        if noted is not None and noted.seq < base.seq:
            raise Invalid(
                f"record {noted.seq} is older than the oldest one that is kept, {base.seq + 1}",
                remedy="give a head that was noted later",
            )
        walk = Walk(base, noted=noted)
        walk.over(fields.get(b"line", b"") + b"\n" for fields in self._pages(base.seq))
        if self._begins() != base:  # pruned meanwhile
            return self.verify(noted)
        walk.contains_noted()
        walk.ends_at(head)
        if walk.records and head == GENESIS:
            walk.faults.append(Fault(FaultKind.CUT, 0, walk.link.seq + 1, "how far it went is not known"))
        if base != GENESIS and not self._says(base):
            walk.faults.append(Fault(FaultKind.CUT, 0, base.seq, "no record says that the older ones may go"))
        places = tuple(Place(PLACE, fault) for fault in walk.faults)
        return Verified(walk.records, base.seq + 1, walk.link, places)

    def _says(self, base: Link) -> bool:
        begins = {"seq": base.seq, "hash": base.hash}
        return bool(self.newest(1, lambda one: one.action == PRUNE and one.after == {"begins": begins}))

    def _begins(self) -> Link:
        return self._link(self._base)

    def _link(self, key: str) -> Link:
        with self._answered():
            found: Any = self._client.hmget(key, ["seq", "hash"])
        try:
            return Link(int(found[0]), found[1].decode()) if all(found) else GENESIS
        except ValueError:
            return GENESIS  # the walk finds that the records do not follow it

    def close(self) -> None:
        """Connects again when it is used again."""
        self._client.close()

    @contextlib.contextmanager
    def _answered(self) -> Iterator[None]:
        try:
            yield
        except PhoenixError:
            raise
        except (RedisError, OSError) as error:
            raise translated(error, self._client) from None  # the original may repeat the password


def _lines(entries: Sequence[Entry], link: Link) -> tuple[list[bytes], Link]:
    lines: list[bytes] = []
    for entry in entries:
        line, link = encoded(entry, link)
        lines.append(line)
    return lines, link


def _readable(fields: dict[bytes, bytes]) -> Record | None:
    """None for what is no record: `verify` tells of it."""
    try:
        return decoded(fields[b"line"])
    except (ValueError, KeyError, TypeError):
        return None

"""The audit log as bytes: one line of JSON for each record, each bound to the one before it. Pure.

    {"seq":7,"prev":"<hash of record 6>","at":"…","actor":"…", … ,"hash":"<hash of this one>"}

`hash` is the SHA-256 of everything before it in the line, so that whoever has `sha256sum` can check a record.
A record that is altered, removed, put elsewhere or written in between no longer fits to its neighbours. What
is missing at the end shows no chain by itself: `Link`, the last number and hash, is kept apart for that.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

LONGEST_VALUE = 16_384
"""Bytes of JSON of `before` or of `after`; what is longer is told by its size alone."""
_HEAD = re.compile(rb'\{"seq":([1-9]\d{0,17}),"prev":"([0-9a-f]{64})","at":')
_TAIL = re.compile(rb',"hash":"([0-9a-f]{64})"\}')
_TAIL_LENGTH = len(',"hash":""}') + 64


@dataclass(frozen=True, slots=True)
class Link:
    """The end of a chain so far."""

    seq: int
    hash: str


GENESIS = Link(0, "0" * 64)


class Outcome(StrEnum):
    ASKED = "asked"
    """It is about to be done; another record tells what came of it. Where none does, the process died."""
    DONE = "done"
    REFUSED = "refused"
    """Nothing was changed."""
    FAILED = "failed"
    """It was tried, and may have been done in part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What happened. Whoever writes it has masked what is secret."""

    at: datetime
    """Aware."""
    actor: str
    action: str
    """`noun.verb`, for example rollout.abort."""
    target: str
    """Kind and name, for example rollout/shop."""
    reason: str = ""
    before: Any = None
    """Of what is changed, as it can be said in JSON."""
    after: Any = None
    request_id: str = ""
    source: str = ""
    """Where the request came from: an address, or `unix` for the socket of this machine."""
    outcome: str = ""
    """One of `Outcome`."""
    asked: int | None = None
    """Number of the record that told what was asked, where this one tells what came of it."""
    event: str = ""
    """The event that this was told by, `rollout:id`; no event is recorded twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Entry):
    """An entry at its place in the chain."""

    seq: int
    prev: str
    hash: str


class FaultKind(StrEnum):
    ALTERED = "altered"
    """The bytes are not those that were written."""
    BROKEN = "broken"
    """The line is no record."""
    MISPLACED = "misplaced"
    """The record does not follow the one before it: some were removed, added or put elsewhere."""
    CUT = "cut"
    """The chain ends before the record that was written last."""
    REWRITTEN = "rewritten"
    """Not the records of which somebody has noted the last one: the whole chain was made anew."""
    UNFINISHED = "unfinished"
    """The last line has no end: a record whose writer died, and which nobody was told of."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Where a chain does not hold."""

    kind: FaultKind
    line: int
    """In its file, from 1."""
    seq: int
    """Of the record that was expected there."""
    detail: str


@dataclass(slots=True)
class Walk:
    """Checks line after line. `link`: what the next one has to follow."""

    link: Link = GENESIS
    records: int = 0
    faults: list[Fault] = field(default_factory=list)
    line: int = 0
    """The last one of the file that is walked over."""
    noted: Link | None = None
    """A number and hash that somebody noted earlier."""
    met: str = ""
    """The hash that the record with the noted number has."""

    def __post_init__(self) -> None:
        self._meet()

    def over(self, lines: Iterable[bytes]) -> None:
        """The lines of one file, with their ends."""
        self.line = 0
        for line in lines:
            self.line += 1
            self._step(line)

    def _step(self, line: bytes) -> None:
        expected = self.link.seq + 1
        body, end = line[: -_TAIL_LENGTH - 1], line[-_TAIL_LENGTH - 1 :]
        head, tail = _HEAD.match(body), _TAIL.fullmatch(end[:-1])
        if not line.endswith(b"\n"):
            self._fault(FaultKind.UNFINISHED, expected, f"{len(line)} bytes without an end of line")
            return
        if head is None or tail is None:
            self._fault(FaultKind.BROKEN, expected, "this is no record")
            self.link = Link(expected, "")  # what follows is still checked against itself
            return
        seq, prev, said = int(head[1]), head[2].decode(), tail[1].decode()
        if hashlib.sha256(body).hexdigest() != said:
            self._fault(FaultKind.ALTERED, expected, f"the content of record {seq} does not have its hash")
        if seq != expected or (self.link.hash and prev != self.link.hash):
            self._fault(FaultKind.MISPLACED, expected, f"record {seq} follows record {self.link.seq}")
        self.records += 1
        self.link = Link(seq, said)
        self._meet()

    def _meet(self) -> None:
        if self.noted is not None and self.link.seq == self.noted.seq:
            self.met = self.link.hash

    def contains_noted(self) -> None:
        """Say it where the noted record is not in it, or is another one."""
        if self.noted is None or self.met == self.noted.hash:
            return
        detail = f"record {self.noted.seq} has another hash than was noted"
        if not self.met:
            detail = f"record {self.noted.seq}, which was noted, is not in it"
        self._fault(FaultKind.REWRITTEN, self.noted.seq, detail)

    def ends_at(self, last: Link) -> None:
        """Say where it had to end at the least; records after that were written by somebody who died before
        he could say so."""
        if self.link.seq < last.seq:
            missing = last.seq - self.link.seq
            self._fault(FaultKind.CUT, self.link.seq + 1, f"{missing} records after it are missing")

    def _fault(self, kind: FaultKind, seq: int, detail: str) -> None:
        self.faults.append(Fault(kind, self.line, seq, detail))


def encoded(entry: Entry, after: Link) -> tuple[bytes, Link]:
    """The line of a record that follows `after`, and the link that it makes."""
    content = {
        "seq": after.seq + 1,
        "prev": after.hash,
        "at": entry.at.astimezone(UTC).isoformat(),
        **{name: value for name, value in _told(entry) if value not in ("", None)},
    }
    body = _json(content)[:-1]
    found = hashlib.sha256(body).hexdigest()
    return b'%b,"hash":"%b"}\n' % (body, found.encode()), Link(after.seq + 1, found)


def _told(entry: Entry) -> Iterator[tuple[str, Any]]:
    yield "actor", entry.actor
    yield "action", entry.action
    yield "target", entry.target
    yield "reason", entry.reason
    yield "before", _bounded(entry.before)
    yield "after", _bounded(entry.after)
    yield "requestId", entry.request_id
    yield "source", entry.source
    yield "outcome", entry.outcome
    yield "asked", entry.asked
    yield "event", entry.event


def _bounded(value: Any) -> Any:
    size = len(_json(value)) if value is not None else 0
    return {"omitted": f"{size} bytes"} if size > LONGEST_VALUE else value


def _json(value: Any) -> bytes:
    """Half of a character, which no file takes, becomes its escape."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
    return text.encode(errors="backslashreplace")


def decoded(line: bytes) -> Record:
    """Raises ValueError for what is no record; whether it is unaltered only a walk can tell."""
    found = {"actor": "", "action": "", "target": "", **json.loads(line)}
    found["at"] = datetime.fromisoformat(found["at"])
    found["request_id"] = found.pop("requestId", "")
    known = {one.name for one in fields(Record)}
    return Record(**{name: value for name, value in found.items() if name in known})


def shown(record: Record) -> dict[str, Any]:
    """With the names of the file."""
    found = asdict(record)
    found["at"] = record.at.isoformat()
    found["requestId"] = found.pop("request_id")
    return found

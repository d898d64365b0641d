"""Restore some keys of a copy: a throw-away server loads it, and those that match are moved one by one.

    SCAN pattern → DUMP and PEXPIRETIME → RESTORE … ABSTTL

Slower than a whole restore (some 14,000 keys a second), and good for what a whole one cannot do: a few keys
of a server that goes on working, or a service that follows nobody. Each key is old or new; all of them
together are not one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from phoenix_orch.kernel.errors import Invalid, Terminal
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.redis_asking import asking, facts

BATCH = 500
_GONE = -2
_FOREVER = -1


class Conflict(StrEnum):
    """What happens to a key that the target has."""

    SKIP = "skip"
    """It stays as it is."""
    OVERWRITE = "overwrite"
    RENAME = "rename-prefix"
    """Every key is restored under another name, with a prefix; one that has that name, too, stays."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which keys, and what to do where the target has them."""

    pattern: str = "*"
    """As SCAN understands it."""
    database: int = 0
    conflict: Conflict = Conflict.SKIP
    prefix: str = ""
    """For RENAME."""

    def __post_init__(self) -> None:
        if (self.conflict is Conflict.RENAME) != bool(self.prefix):
            raise Invalid(
                "a prefix is for the policy rename-prefix, and that needs one",
                remedy="give both, or another policy",
            )


@dataclass(frozen=True, slots=True)
class Moved:
    """How many keys: each that matched is in exactly one of the others."""

    matched: int = 0
    restored: int = 0
    """New in the target."""
    overwritten: int = 0
    skipped: int = 0
    """The target had them."""
    expired: int = 0
    """Their time was over."""


def move(
    copy: RedisAddress,
    target: RedisAddress,
    selection: Selection,
    *,
    dry_run: bool = False,
    progress: Callable[[Moved], None] = lambda _: None,
) -> Moved:
    """Move the keys from the server `copy`, which was loaded with it. `dry_run`: count, and change nothing.

    A target in cluster mode is written to at one node: keys of other slots raise Terminal, so name each
    primary in turn, or a proxy. Raises PhoenixError; what was moved by then stays.
    """
    total = Moved()
    with (
        asking(copy, text=False, database=selection.database) as source,
        asking(target, text=False, database=selection.database) as sink,
    ):
        for keys in _batches(source, selection.pattern):
            total = _added(total, _moved(source, sink, keys, selection, dry_run=dry_run))
            progress(total)
    return total


def databases(copy: RedisAddress) -> list[int]:
    """Those of the copy that hold keys."""
    with asking(copy) as client:
        return sorted(facts(client).databases)


def _batches(source: Redis, pattern: str) -> Iterator[list[bytes]]:
    """Every key that matches. A scan may give one twice, which is then counted as one that was there."""
    batch: dict[bytes, None] = {}
    for key in source.scan_iter(match=pattern, count=BATCH):
        batch[key] = None
        if len(batch) == BATCH:
            yield list(batch)
            batch = {}
    if batch:
        yield list(batch)


def _moved(source: Redis, sink: Redis, keys: list[bytes], selection: Selection, *, dry_run: bool) -> Moved:
    reading = source.pipeline(transaction=False)
    for key in keys:
        reading.dump(key)
        reading.pexpiretime(key)  # type: ignore[arg-type]
    answers = reading.execute()
    found = [
        (selection.prefix.encode() + key, answers[2 * n], answers[2 * n + 1])
        for n, key in enumerate(keys)
        if answers[2 * n] is not None and answers[2 * n + 1] != _GONE
    ]
    asking_there = sink.pipeline(transaction=False)
    for name, _, _ in found:
        asking_there.exists(name)
    there = asking_there.execute(raise_on_error=False)
    _refuse(there)
    overwrite = selection.conflict is Conflict.OVERWRITE
    wanted = [one for one, is_there in zip(found, there, strict=True) if overwrite or not is_there]
    had = sum(map(bool, there))
    busy = 0 if dry_run else _written(sink, wanted, replace=overwrite)
    return Moved(
        matched=len(keys),
        restored=len(found) - had - busy,
        overwritten=had if overwrite else 0,
        skipped=busy + (0 if overwrite else had),
        expired=len(keys) - len(found),
    )


def _written(sink: Redis, wanted: list[tuple[bytes, Any, int]], *, replace: bool) -> int:
    """Write them; how many somebody else has made meanwhile, which stay."""
    writing = sink.pipeline(transaction=False)
    for name, value, moment in wanted:
        ttl = 0 if moment == _FOREVER else moment
        writing.restore(name, ttl, value, replace=replace, absttl=ttl > 0)
    answers = writing.execute(raise_on_error=False)
    busy = [one for one in answers if isinstance(one, ResponseError) and "BUSYKEY" in str(one)]
    _refuse([one for one in answers if one not in busy])
    return len(busy)


def _refuse(answers: list[Any]) -> None:
    for one in answers:
        if not isinstance(one, Exception):
            continue
        said = str(one)
        if said.startswith(("MOVED", "ASK", "CROSSSLOT")):
            raise Terminal(
                "the target is a node of a cluster and does not serve all of these keys",
                remedy="restore to each primary in turn with a pattern of its slots, or through a proxy",
            )
        if "version or checksum" in said:
            raise Terminal(
                "the target cannot read values of this copy: its version is older",
                remedy="restore into a server at least as new as the one that was copied",
            )
        raise one


def _added(one: Moved, other: Moved) -> Moved:
    return Moved(
        one.matched + other.matched,
        one.restored + other.restored,
        one.overwritten + other.overwritten,
        one.skipped + other.skipped,
        one.expired + other.expired,
    )

"""Make servers hold what copies do, key by key: what is done to them, and how it is looked at afterwards."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.recovery.rdb_walk import Key, Library
from phoenix_orch.recovery.redis_asking import asking, facts
from phoenix_orch.recovery.restore.copy_keys import Copies
from phoenix_orch.recovery.restore.key_set import KeySet
from phoenix_orch.recovery.restore.redis_keys import (
    BATCH,
    Conflict,
    Moved,
    Selection,
    Sinks,
    batches,
    move,
    refuse,
    sinks,
)
from phoenix_orch.recovery.restore.slot_owners import EVERY, Owner, Span, slot_of

_LIBRARY = re.compile(rb"#![^\n]*?\bname=([^\s]+)")
_TELL = 5.0
"""Seconds between words about how far it is."""


def key_set(copies: Copies) -> KeySet:
    """What the copies hold, opened and walked through to their ends. Raises PhoenixError."""
    keys = (one for one in copies.everything(values=False) if isinstance(one, Key))
    return KeySet(keys, int(time.time() * 1000))


def put(
    copies: Copies,
    wanted: KeySet,
    owners: Sequence[Owner],
    tell: Callable[[str], None],
    scope: Sequence[Span] | None = None,
) -> Iterator[str]:
    """Make the servers hold what the copies do, in their slots, and say what was done.

    `scope`: the slots, where they are not all that the copies have.
    """
    spans = tuple(scope if scope is not None else (span for one in copies.taken for span in one.slots))
    yield f"{_removed(wanted, owners, spans):,} keys that are in no copy were removed"
    total, told = Moved(), time.monotonic()

    def progress(moved: Moved) -> None:
        nonlocal told
        if time.monotonic() - told > _TELL:
            told = time.monotonic()
            tell(f"{moved.matched:,} of {len(wanted):,} keys")

    libraries: dict[bytes, bytes] = {}
    for database in sorted(wanted.databases):
        selection = Selection(database=database, conflict=Conflict.OVERWRITE)
        keys = _within(copies.everything(), database, spans, libraries)
        total += move(keys, owners, selection, progress=progress)
    yield f"{total.restored:,} keys were put, {total.overwritten:,} written over"
    if sum(last - first + 1 for first, last in spans) == EVERY[0][1] + 1 and libraries:
        for owner in owners:
            _functions(owner, libraries)
        yield f"{len(libraries)} libraries of functions were loaded on each primary"


def _within(
    items: Iterator[Key | Library], database: int, spans: Sequence[Span], libraries: dict[bytes, bytes]
) -> Iterator[Key]:
    whole = spans == EVERY
    for one in items:
        if isinstance(one, Library):
            if found := _LIBRARY.match(one.code):
                libraries[found[1]] = one.code
        elif one.database == database and (whole or _in(spans, one.name)):
            yield one


def _in(spans: Sequence[Span], name: bytes) -> bool:
    slot = slot_of(name)
    return any(first <= slot <= last for first, last in spans)


def _removed(wanted: KeySet, owners: Sequence[Owner], spans: Sequence[Span]) -> int:
    """Remove what is in no copy; how many keys that were."""
    count = 0
    for owner in owners:
        with asking(owner.address) as client:
            databases = sorted(facts(client).databases)
        for database in databases:
            with asking(owner.address, text=False, database=database) as client:
                batch: list[bytes] = []
                for name in client.scan_iter(count=BATCH):
                    if not wanted.has(database, name) and _in(spans, name):
                        batch.append(name)
                    if len(batch) == BATCH:
                        count += _unlinked(client, batch)
                        batch = []
                count += _unlinked(client, batch)
    return count


def _unlinked(client: Any, names: Sequence[bytes]) -> int:
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.unlink(name)
    answers = pipe.execute(raise_on_error=False)
    refuse(answers)
    return sum(answers)


def _functions(owner: Owner, libraries: dict[bytes, bytes]) -> None:
    with asking(owner.address, text=False) as client:
        for code in libraries.values():
            client.execute_command("FUNCTION", "LOAD", "REPLACE", code)  # type: ignore[no-untyped-call]


def looked_for(copies: Copies, wanted: KeySet, owners: Sequence[Owner]) -> None:
    """Every key of the copies is there. Raises Terminal."""
    for database in sorted(wanted.databases):
        keys = _within(copies.everything(values=False), database, EVERY, {})
        with sinks(owners, database) as known:
            for batch in batches(keys):
                _there(known, batch)


def _there(known: Sinks, batch: Sequence[Key]) -> None:
    there = known.ask([one.name for one in batch], lambda pipe, n: pipe.exists(batch[n].name))
    refuse(there)
    now = int(time.time() * 1000)
    lost = [one for one, is_there in zip(batch, there, strict=True) if not is_there]
    if any(not one.expires or one.expires > now for one in lost):
        raise Terminal(
            f"{len(lost):,} of {len(batch):,} keys are not there after they were put",
            remedy="somebody else removed them, or the server evicts: see maxmemory-policy there",
        )

"""Put keys of a copy into servers that live, one by one: each is old or new, all together are not one moment.

    a dump, key by key → EXISTS → RESTORE … ABSTTL, at the primary of its slot

No server loads the copy: values go on as they were written, so that the server they came from, and each later
one of its kind, takes them. Slower than a whole restore, and good for what that cannot do: a few keys of a
server that goes on working, a cluster, or a service that follows nobody.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from phoenix_orch.kernel.errors import Invalid, Retryable, Terminal
from phoenix_orch.recovery.key_patterns import matching
from phoenix_orch.recovery.rdb_walk import Key
from phoenix_orch.recovery.redis_asking import asking
from phoenix_orch.recovery.restore.slot_owners import Owner, by_slot, slot_of

BATCH = 500
"""Keys that are asked about at once."""
HEAVY = 8 * 1024 * 1024
"""Bytes of values that go out at once."""


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

    def __add__(self, other: Moved) -> Moved:
        return Moved(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))


def chosen(items: Iterable[object], selection: Selection) -> Iterator[Key]:
    """The keys of a dump that are meant."""
    matches = matching(selection.pattern)
    for one in items:
        if isinstance(one, Key) and one.database == selection.database and matches(one.name):
            yield one


def move(
    keys: Iterable[Key],
    owners: Sequence[Owner],
    selection: Selection,
    *,
    dry_run: bool = False,
    progress: Callable[[Moved], None] = lambda _: None,
) -> Moved:
    """Put the keys where they belong. `dry_run`: count, and change nothing; values may be empty then.

    Of `selection` only database, policy and prefix are looked at. Raises PhoenixError; what was moved by then
    stays.
    """
    total = Moved()
    with sinks(owners, selection.database) as known:
        for batch in batches(keys):
            total += _moved(known, batch, selection, dry_run=dry_run)
            progress(total)
    return total


class Sinks:
    """Open connections to everyone who owns slots."""

    def __init__(self, clients: Sequence[Redis], places: Sequence[int]) -> None:
        self.clients = clients
        self._places = places

    def of(self, key: bytes) -> Redis:
        return self.clients[self._places[slot_of(key)] if len(self.clients) > 1 else 0]

    def ask(self, names: Sequence[bytes], command: Callable[[Any, int], object]) -> list[Any]:
        """One command for each key, `command(pipeline, number)`; the answers in the order of the names."""
        groups: dict[int, list[int]] = {}
        for number, name in enumerate(names):
            groups.setdefault(id(self.of(name)), []).append(number)
        answers: list[Any] = [None] * len(names)
        for client in self.clients:
            numbers = groups.get(id(client), [])
            if not numbers:
                continue
            pipe = client.pipeline(transaction=False)
            for number in numbers:
                command(pipe, number)
            for number, answer in zip(numbers, pipe.execute(raise_on_error=False), strict=True):
                answers[number] = answer
        return answers


@contextlib.contextmanager
def sinks(owners: Sequence[Owner], database: int = 0) -> Iterator[Sinks]:
    """Raises PhoenixError, also for what the body raises."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(asking(one.address, text=False, database=database)) for one in owners]
        yield Sinks(clients, by_slot(owners))


def batches(keys: Iterable[Key]) -> Iterator[list[Key]]:
    batch: list[Key] = []
    weight = 0
    for one in keys:
        batch.append(one)
        weight += len(one.value)
        if len(batch) == BATCH or weight > HEAVY:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def _moved(known: Sinks, keys: list[Key], selection: Selection, *, dry_run: bool) -> Moved:
    now = int(time.time() * 1000)
    prefix = selection.prefix.encode()
    found = [(prefix + one.name, one) for one in keys if not one.expires or one.expires > now]
    there = known.ask([name for name, _ in found], lambda pipe, n: pipe.exists(found[n][0]))
    refuse(there)
    overwrite = selection.conflict is Conflict.OVERWRITE
    wanted = [one for one, is_there in zip(found, there, strict=True) if overwrite or not is_there]
    had = sum(map(bool, there))
    busy = 0 if dry_run else _written(known, wanted, replace=overwrite)
    return Moved(
        matched=len(keys),
        restored=len(found) - had - busy,
        overwritten=had if overwrite else 0,
        skipped=busy + (0 if overwrite else had),
        expired=len(keys) - len(found),
    )


def _written(known: Sinks, wanted: list[tuple[bytes, Key]], *, replace: bool) -> int:
    """Write them; how many somebody else has made meanwhile, which stay."""

    def restore(pipe: Any, number: int) -> None:
        name, one = wanted[number]
        pipe.restore(name, one.expires, one.value, replace=replace, absttl=one.expires > 0)

    answers = known.ask([name for name, _ in wanted], restore)
    busy = [one for one in answers if isinstance(one, ResponseError) and "BUSYKEY" in str(one)]
    refuse([one for one in answers if one not in busy])
    return len(busy)


def refuse(answers: Sequence[Any]) -> None:
    """Raise the first error among them, in Phoenix's words where it is known."""
    for one in answers:
        if not isinstance(one, Exception):
            continue
        said = str(one)
        if said.startswith(("MOVED", "ASK", "CROSSSLOT", "TRYAGAIN")):
            raise Retryable(
                "slots of the cluster are being moved meanwhile",
                remedy="wait until that has ended (`redis-cli --cluster check`), then type it again",
            )
        if "version or checksum" in said or "Bad data format" in said:
            raise Terminal(
                "the target cannot read values of this copy: its version is older, or of another kind",
                remedy="restore into a server at least as new as the one that was copied",
            )
        raise one

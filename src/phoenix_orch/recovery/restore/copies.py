"""Which copies make up a Redis: its own, or one of each shard, and which slots are taken from each.

The copies of a cluster are of different moments, and slots move between its shards. So each slot is taken
from the newest copy that has it: what one shard gave away before it was copied stands in the copy of another.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from phoenix_orch.kernel.errors import BadState, Invalid
from phoenix_orch.recovery.catalog import Backup
from phoenix_orch.recovery.restore.slot_owners import EVERY, Span, told
from phoenix_orch.recovery.selecting import LATEST, select
from phoenix_orch.recovery.sources.redis_shards import SLOTS

_SHARD = re.compile(r"\.shard[0-9]+$")


@dataclass(frozen=True, slots=True)
class Taken:
    """A copy, and what is taken from it."""

    backup: Backup
    slots: tuple[Span, ...] = EVERY

    @property
    def whole(self) -> bool:
        """The copy of a server alone."""
        return self.slots == EVERY


def shard_of(component: str, name: str) -> bool:
    """Whether `component` is a shard of the cluster `name`."""
    return component.startswith(name) and _SHARD.fullmatch(component[len(name) :]) is not None


def copies(
    backups: Sequence[Backup], component: str, word: str = LATEST, as_of: datetime | None = None
) -> tuple[Taken, ...]:
    """What `component` is restored from. `backups`: of it and of its shards.

    Raises NotFound, Invalid, and BadState where some slots are in no copy.
    """
    own = [one for one in backups if one.manifest.component == component]
    shards = sorted({name for one in backups if shard_of(name := one.manifest.component, component)})
    if own or not shards:
        return (Taken(one := select(own, word, component=component, as_of=as_of), slots_in(one)),)
    if word != LATEST:
        raise Invalid(
            f"{component} has a copy of each of its {len(shards)} shards, and {word} is one",
            remedy=f"leave --backup out, or name a moment (--as-of), or one shard: --component {shards[0]}",
        )
    found = []
    for name in shards:
        of_it = [one for one in backups if one.manifest.component == name]
        found.append(select(of_it, component=name, as_of=as_of))
    return _divided(component, found)


def passed_over(backups: Sequence[Backup], taken: Sequence[Taken]) -> list[Backup]:
    """Newer copies of the same components that do not count, newest first: whoever restores has to know."""
    found = []
    for one in (part.backup for part in taken):
        here = one.manifest.time.consistency_point
        found += [
            other
            for other in backups
            if other.manifest.component == one.manifest.component
            and other.manifest.time.consistency_point > here
            and other.tombstone is None
            and not other.before_restore
            and not other.good
        ]
    return sorted(found, key=lambda one: one.manifest.time.consistency_point, reverse=True)


def _divided(component: str, found: Sequence[Backup]) -> tuple[Taken, ...]:
    newest = sorted(found, key=lambda one: one.manifest.time.consistency_point, reverse=True)
    holder: list[int | None] = [None] * SLOTS
    for place, one in enumerate(newest):
        for first, last in slots_in(one):
            for slot in range(first, last + 1):
                if holder[slot] is None:
                    holder[slot] = place
    if missing := _spans(holder, None):
        raise BadState(
            f"the slots {told(missing)} are in no copy of {component}",
            remedy="choose another moment (--as-of), or restore what there is shard by shard: --component "
            f"{newest[0].manifest.component}",
        )
    taken = [Taken(one, _spans(holder, place)) for place, one in enumerate(newest)]
    return tuple(sorted((one for one in taken if one.slots), key=lambda one: one.slots))


def slots_in(backup: Backup) -> tuple[Span, ...]:
    """As its manifest has them; all of them for a server alone."""
    told_slots = backup.manifest.content.get("slots")
    if not isinstance(told_slots, list):
        return EVERY
    return tuple((int(first), int(last)) for first, last in told_slots)


def _spans(holder: Sequence[int | None], wanted: int | None) -> tuple[Span, ...]:
    spans: list[Span] = []
    for slot, place in enumerate(holder):
        if place != wanted:
            continue
        if spans and spans[-1][1] == slot - 1:
            spans[-1] = (spans[-1][0], slot)
        else:
            spans.append((slot, slot))
    return tuple(spans)

"""Which instances of one revision to start, to drain, and to call back. Pure and level-triggered.

`plan` is asked again after every change. It never counts on an earlier answer having been carried
out: what is there and what is wanted is all it knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from phoenix_orch.workload.workload import InstanceState


@dataclass(frozen=True, slots=True)
class Member:
    """One instance, as far as its fate depends on it."""

    name: str
    ordinal: int
    """Position in the order of first starts."""
    state: InstanceState
    retiring: bool = False
    """A restart was asked for while it ran: a new instance has to take its place."""
    leaving: bool = False
    """It has been told to end; nothing brings it back."""

    @property
    def ready(self) -> bool:
        return self.state is InstanceState.READY

    @property
    def draining(self) -> bool:
        return self.state is InstanceState.DRAINING


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. Names are instances; `start` is a number of new ones."""

    start: int = 0
    drain: tuple[str, ...] = ()
    revive: tuple[str, ...] = ()
    """Draining instances that were not told to end yet: they stay instead of a new start."""


def plan(members: Sequence[Member], wanted: int) -> Plan:
    """Bring one revision to `wanted` instances that no restart asks to replace.

    - Too few: call draining ones back first, they are warm; start the rest.
    - Too many: those go first that do not serve, then retiring ones, then the newest.
    - Retiring ones are replaced one by one: there is at most one instance above `wanted`, and a
      retiring instance that serves leaves only while `wanted` others are ready.
    """
    staying = [member for member in members if not member.draining]
    retiring = [member for member in staying if member.retiring]
    fresh = len(staying) - len(retiring)
    rolling = bool(retiring) and wanted > 0
    missing = min(wanted - fresh, wanted + rolling - len(staying))
    if missing > 0:
        revive = _callable_back(members)[:missing]
        return Plan(start=missing - len(revive), revive=revive)
    surplus = len(staying) - wanted
    if surplus <= 0:
        return Plan()
    if not rolling:
        return Plan(drain=_names(_least_useful(staying)[:surplus]))
    return Plan(drain=_replaced(staying, wanted, fresh))


def _replaced(staying: Sequence[Member], wanted: int, fresh: int) -> tuple[str, ...]:
    """Who leaves in the middle of a restart, with more instances there than wanted."""
    ready = sum(member.ready for member in staying)
    surplus = len(staying) - wanted
    gone: list[Member] = []
    for member in _least_useful(staying):
        if len(gone) == surplus:
            break
        if not member.retiring and fresh <= wanted:
            continue  # it is one of those that replace
        if member.ready and ready <= wanted:
            continue
        gone.append(member)
        ready -= member.ready
        fresh -= not member.retiring
    return _names(gone)


def _callable_back(members: Iterable[Member]) -> tuple[str, ...]:
    waiting = [m for m in members if m.draining and not m.leaving and not m.retiring]
    return _names(sorted(waiting, key=lambda member: member.ordinal))


def _least_useful(members: Iterable[Member]) -> list[Member]:
    return sorted(members, key=lambda member: (member.ready, not member.retiring, -member.ordinal))


def _names(members: Iterable[Member]) -> tuple[str, ...]:
    return tuple(member.name for member in members)

"""Processes of which nothing is written down any more: they serve on until it is known what to do with them.

What they tell themselves, by the marks in their environment, is enough to take them over once somebody
says what their revision is made of. Until then nobody ends them and nobody counts on them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from phoenix_orch.workload.adoption import Adopted, by_its_marks, ordinal_of
from phoenix_orch.workload.processes import Marked, ProcessId
from phoenix_orch.workload.spec import Template
from phoenix_orch.workload.workload import Instance, InstanceState


class Found:
    """Leaders of the instances of one service."""

    def __init__(self) -> None:
        self._leaders: list[Marked] = []

    def __bool__(self) -> bool:
        return bool(self._leaders)

    @property
    def leaders(self) -> tuple[Marked, ...]:
        return tuple(self._leaders)

    @property
    def ports(self) -> frozenset[int]:
        return frozenset(leader.port for leader in self._leaders if leader.port is not None)

    @property
    def highest_ordinal(self) -> int:
        return max((ordinal_of(leader.instance) or 0 for leader in self._leaders), default=0)

    def add(self, leaders: Iterable[Marked]) -> None:
        self._leaders += leaders

    def snapshots(self) -> tuple[Instance, ...]:
        """As instances that serve and are not counted on: the router may send to them all the same."""
        return tuple(
            Instance(
                name=leader.instance,
                revision=leader.revision,
                state=InstanceState.DRAINING,
                pid=leader.process.pid,
                started=leader.process.started,
                port=leader.port or 0,
            )
            for leader in self._leaders
        )

    def take(self, template: Template, taken: Collection[Adopted]) -> list[Adopted]:
        """Those of the template's revision, as instances to go on with."""
        adopted: list[Adopted] = []
        for leader in [one for one in self._leaders if one.revision == template.revision]:
            instance = by_its_marks(leader, template, (*taken, *adopted))
            if instance is not None:
                adopted.append(instance)
                self._leaders.remove(leader)
        return adopted

    def let_go(self, routed: Collection[str]) -> list[Marked]:
        """Those that the router does not send to; they are not held any longer."""
        free = [leader for leader in self._leaders if leader.instance not in routed]
        self._leaders = [leader for leader in self._leaders if leader not in free]
        return free

    def prune(self, alive: Callable[[ProcessId], bool]) -> bool:
        """Forget those that have ended; whether there were any."""
        before = len(self._leaders)
        self._leaders = [leader for leader in self._leaders if alive(leader.process)]
        return len(self._leaders) != before

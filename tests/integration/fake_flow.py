"""Freezes and groups over records that do not change; what people say is kept in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from phoenix_orch.kernel.clock import ManualClock
from phoenix_orch.orchestrator.flow import Declared, Flow, Records
from phoenix_orch.rollout.freezes import Freeze
from phoenix_orch.rollout.freezes_by_hand import Said
from phoenix_orch.rollout.groups import Group
from phoenix_orch.rollout.status import Release, Revision, Rollout

DECLARED = Declared(
    freezes=(Freeze(name="year-end", cron="0 0 20 12 *", duration="18d", reason="stocktaking"),),  # type: ignore[arg-type]
    groups=(Group(name="shop", rollouts=("web",), max_concurrent=1),),
)


class MemoryBook:
    """What people said, until the test ends."""

    def __init__(self) -> None:
        self.said = Said()

    async def read(self) -> Said:
        return self.said

    async def change(self, how: Callable[[Said], Said]) -> None:
        self.said = how(self.said)


def fake_flow(
    rollouts: Callable[[], Awaitable[list[Rollout]]],
    history: Callable[[str, int], Awaitable[list[Release]]],
    revisions: Callable[[str], Awaitable[list[Revision]]],
    clock: ManualClock,
    declared: Declared = DECLARED,
) -> Flow:
    """The real thing over these records."""

    async def rules() -> Declared:
        return declared

    async def tell(rollout: Rollout, reason: str, message: str, actor: str) -> None:
        """Nobody reads it."""

    return Flow(MemoryBook(), rules, Records(rollouts, history, revisions, tell), clock)

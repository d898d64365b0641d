"""What is left of Rollouts that were deleted while no orchestrator ran: traffic first, then claims.

Looked for once in a term of office, since who leads sees every deletion itself (`leaving.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import structlog

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.orchestrator.cluster.leaving import SETTLED
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.workload.kubernetes import DeploymentSpec


class Router(Protocol):
    async def forsaken(self) -> tuple[str, ...]:
        """Routes that are steered and that no Rollout names."""
        ...

    async def forsake(self, route: str) -> None:
        """Stop steering one of them: all traffic to stable. Idempotent."""
        ...


class Workload(Protocol):
    def forsaken(self, uids: Collection[str]) -> Mapping[str, DeploymentSpec]:
        """Deployments that are claimed by Rollouts other than `uids`, by service."""
        ...

    async def declare(self, service: str, spec: DeploymentSpec) -> None: ...

    async def leave(self, service: str) -> None:
        """Take away what Phoenix made and marked."""
        ...


class Forsaken:
    """`look` in every pass until it is `done`."""

    def __init__(self, router: Router, workload: Workload, *, clock: Callable[[], float]) -> None:
        """`clock`: seconds that never go back."""
        self.done = False
        self._router = router
        self._workload = workload
        self._clock = clock
        self._released_at: float | None = None
        self._log = structlog.get_logger("phoenix.rollouts")
        self._faults = Faults(self._log)

    async def look(self, uids: Collection[str], services: Collection[str]) -> None:
        """`uids`: of all Rollouts, readable or not; `services`: what is released by those that are."""
        try:
            await self._look(uids, services)
        except PhoenixError as error:
            self._faults.tell("forsaken", "leaving", error=error)
        else:
            self._faults.mended("forsaken", "leaving")

    async def _look(self, uids: Collection[str], services: Collection[str]) -> None:
        if self._released_at is None:
            for route in await self._router.forsaken():
                await self._router.forsake(route)
                self._log.info("its Rollout is no more; stable has all traffic", route=route)
            self._released_at = self._clock()
        if self._clock() - self._released_at < SETTLED:
            return
        for service, spec in self._workload.forsaken(uids).items():
            if service not in services:
                await self._workload.declare(service, spec)
                await self._workload.leave(service)
        self.done = True

"""What Rollouts left that were deleted or changed while no orchestrator ran: traffic first, then claims.

Looked for once in a term of office, since who leads sees every change itself (`leaving.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol

import structlog

from phoenix_orch.orchestrator.cluster.declared import Carrier
from phoenix_orch.orchestrator.cluster.leaving import SETTLED
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.workload.kubernetes import DeploymentSpec


class Router(Protocol):
    async def forsaken(self) -> tuple[Carrier, ...]:
        """What is steered and no Rollout names."""
        ...

    async def release(self, carrier: Carrier) -> None:
        """Stop steering one of them: all its traffic to stable. Idempotent."""
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
        """`uids`: of all Rollouts, readable or not; `services`: what is released by those that are. Never
        raises: what fails keeps nothing else waiting, and is tried again."""
        if self._released_at is None and await self._guard(self._release(), "routes"):
            self._released_at = self._clock()
        if self._released_at is None or self._clock() - self._released_at < SETTLED:
            return
        self.done = await self._guard(self._give_up_claims(uids, services), "claims")

    async def _release(self) -> bool:
        found = await self._router.forsaken()
        return all([await self._guard(self._released(one), one.kind, one.name) for one in found])

    async def _released(self, carrier: Carrier) -> bool:
        await self._router.release(carrier)
        told = "no Rollout names it any more; stable has all its traffic"
        self._log.info(told, route=carrier.route, kind=carrier.kind, name=carrier.name)
        return True

    async def _give_up_claims(self, uids: Collection[str], services: Collection[str]) -> bool:
        left = {
            service: spec
            for service, spec in self._workload.forsaken(uids).items()
            if service not in services
        }
        return all([await self._guard(self._leave(*one), "Deployment", one[0]) for one in left.items()])

    async def _leave(self, service: str, spec: DeploymentSpec) -> bool:
        await self._workload.declare(service, spec)
        await self._workload.leave(service)
        return True

    async def _guard(self, step: Awaitable[bool], *what: str) -> bool:
        return await self._faults.guard(step, "forsaken", *what)

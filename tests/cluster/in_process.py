"""Phoenix's three components against a cluster, in the process of the test.

They are put together as `phoenix serve COMPONENT --kubernetes` does it, over one set of watches. Two waits
are shorter, so that a release takes seconds: until a router is believed to obey, and until Prometheus is
asked anew. The orchestrator believes the traffic objects about the share, and no counters, which takes it ten
seconds for each step. Nobody runs beside them, so that there is no Lease.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from phoenix_orch.kube.caches import Caches
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import Target
from phoenix_orch.orchestrator.cluster.components import orchestrate, roll_back, validate_by
from phoenix_orch.orchestrator.cluster.parts import ClusterParts, Looks, Pace, parts_of
from phoenix_orch.orchestrator.cluster.prometheus import Endpoints
from phoenix_orch.orchestrator.cluster.telling import nobody
from phoenix_orch.rollout.store.valkey import ValkeyStore

PACE = Pace(settled=0.4)
FRESH = 0.2
COMPONENTS = ("orchestrator", "health-validator", "rollback-controller")


class InProcess:
    """Starts and stops as often as a test likes; nothing is kept between but what the cluster has."""

    def __init__(self, target: Target, *, log: str, prometheus: str) -> None:
        """`log`: address of a Valkey."""
        self._target = target
        self._log = log
        self._prometheus = prometheus
        self._running: dict[str, asyncio.Task[None]] = {}
        self._open = AsyncExitStack()

    async def start(self) -> None:
        """All three, once their watches have shown everything."""
        client = await self._open.enter_async_context(KubeClient(self._target))
        caches = await self._open.enter_async_context(Caches(client))
        looks = Looks(caches, client)
        await looks.synced()
        endpoints, nowhere = Endpoints({"default": [self._prometheus]}, fresh=FRESH), Endpoints({})
        self._open.push_async_callback(endpoints.aclose)

        def parts() -> ClusterParts:
            log = ValkeyStore(self._log, prefix=f"phoenix:{client.namespace}:")
            self._open.push_async_callback(log.close)
            return parts_of(client, looks, log, nobody, PACE)

        works = (orchestrate(parts(), nowhere), validate_by(parts(), endpoints), roll_back(parts()))
        for component, work in zip(COMPONENTS, works, strict=True):
            self._running[component] = asyncio.ensure_future(work)

    async def stop(self) -> None:
        """Wherever they are: what they were about to do is not done."""
        running, self._running = self._running, {}
        for task in running.values():
            task.cancel()
        ends = await asyncio.gather(*running.values(), return_exceptions=True)
        await self._open.aclose()
        self._open = AsyncExitStack()
        faults = [end for end in ends if isinstance(end, Exception)]
        assert not faults, faults

    def ended(self) -> list[str]:
        """Components that run no more, which none should do by itself."""
        return [name for name, task in self._running.items() if task.done()]

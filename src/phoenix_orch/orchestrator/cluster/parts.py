"""What the components of a cluster are made of: the watches of a process, the ports of a term of office."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from phoenix_orch.kernel.clock import Clock, RealClock
from phoenix_orch.kube.caches import Caches
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.lanes import NORMAL, Limits
from phoenix_orch.kube.lease import LeaseTiming
from phoenix_orch.kube.resources import CONFIG_MAPS, INGRESSES, ROLLOUTS, Object
from phoenix_orch.orchestrator.cluster.declared import Declared, Rollouts
from phoenix_orch.orchestrator.cluster.freezing import NAME, WatchedRules
from phoenix_orch.orchestrator.cluster.routing import ClusterRouter
from phoenix_orch.orchestrator.cluster.store import WatchedStore
from phoenix_orch.orchestrator.cluster.telling import Tell
from phoenix_orch.orchestrator.cluster.view import ClusterView
from phoenix_orch.orchestrator.followed_events import FollowedEvents
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.traffic.cached_reads import CachedReads
from phoenix_orch.traffic.kube_router import SETTLED
from phoenix_orch.workload.kubernetes_objects import Watches

LEASES = {
    "orchestrator": "master-orchestrator",
    "health-validator": "health-validator",
    "rollback-controller": "rollback-controller",
}
"""Of each component, named as its Deployment."""
LEASE = LeaseTiming(duration=10, renew_deadline=7.5, retry=1.5)
"""A leader that is killed is followed within 12 s: ADR 0024."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a component waits for a cluster, which no release has a word in. Seconds."""

    settled: float = SETTLED
    """Until what a traffic object says is believed to be obeyed."""
    lease: LeaseTiming = LEASE
    limits: Limits = NORMAL
    """Of ordinary calls to the API server."""


ORDINARY = Pace()


@dataclass(frozen=True, slots=True)
class ClusterParts:
    """The ports of one namespace. All writes go through `client`."""

    client: KubeClient
    clock: Clock
    rollouts: Rollouts
    store: WatchedStore
    router: ClusterRouter
    view: ClusterView
    watches: Watches
    main: Callable[[Declared], Object | None]
    """The first Ingress of a Rollout; it asks nobody."""
    rules: Callable[[], WatchedRules]
    """When releases may begin; watched from the first call on."""
    acts: FollowedEvents | None = None
    """Puts what is done into the audit log; None: there is none."""


class Looks:
    """The watches of one process, whether it leads or not: so that who takes over knows everything."""

    def __init__(self, caches: Caches, client: KubeClient) -> None:
        self.cache = caches.of(ROLLOUTS)
        self.rollouts = Rollouts.watching(self.cache)
        self.watches = Watches.of(caches)
        self.cached = CachedReads(caches, client)
        self._caches = caches

    async def synced(self) -> None:
        await self.cache.synced()
        await self.rollouts.read()
        await self.watches.synced()

    def main(self, one: Declared) -> Object | None:
        """The first Ingress of a Rollout, as its watch knows it."""
        name = one.spec.traffic.ingress
        return self._caches.of(INGRESSES).get(name, one.namespace) if name is not None else None

    def rules(self) -> WatchedRules:
        """When releases may begin; a watch of one ConfigMap."""
        cache = self._caches.of(CONFIG_MAPS, fields=f"metadata.name={NAME}")
        return WatchedRules(cache, cache.selection.namespace)

    def not_ready(self) -> str:
        """Which watches have not shown everything once."""
        waiting = [one for one in (self.cache, *self.watches.caches) if not one.is_synced]
        return ", ".join(f"{one.selection.resource}: {one.fault or 'not listed yet'}" for one in waiting)


def parts_of(client: KubeClient, looks: Looks, log: RolloutStore, tell: Tell, pace: Pace) -> ClusterParts:
    """The parts of one term of office."""
    clock, namespace = RealClock(), client.namespace
    return ClusterParts(
        client=client,
        clock=clock,
        rollouts=looks.rollouts,
        store=WatchedStore(
            client, log, looks.cache, looks.rollouts, namespace=namespace, clock=clock, tell=tell
        ),
        router=ClusterRouter(client, namespace, looks.rollouts, cached=looks.cached, settled=pace.settled),
        view=ClusterView(client, looks.watches, looks.rollouts, clock),
        watches=looks.watches,
        main=looks.main,
        rules=looks.rules,
    )

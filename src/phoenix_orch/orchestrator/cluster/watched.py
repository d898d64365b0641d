"""What people are shown of a cluster by a process that watches it: reading asks the API server nothing."""

from __future__ import annotations

from phoenix_orch.kernel.errors import NotFound, Unavailable
from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.resources import Object
from phoenix_orch.orchestrator.cluster.declared import Declared, Rollouts
from phoenix_orch.orchestrator.cluster.reach import Found
from phoenix_orch.orchestrator.cluster.routing import ClusterRouter
from phoenix_orch.orchestrator.cluster.store import WatchedStore
from phoenix_orch.rollout.store import kubernetes_record as record
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.workload.deployment.scene import Scene
from phoenix_orch.workload.kubernetes_objects import Watches


class WatchedSight:
    """Of one namespace. An object is read once, when it is first shown after it changed."""

    def __init__(  # noqa: PLR0917 - what a process knows of a cluster
        self,
        cache: Cache,
        rollouts: Rollouts,
        watches: Watches,
        router: ClusterRouter,
        store: WatchedStore,
        log: RolloutStore,
    ) -> None:
        """`rollouts`: what `cache` shows, read. `router`: reads traffic objects from their watches."""
        self._cache = cache
        self._shown = rollouts
        self._watches = watches
        self._router = router
        self._log = log
        self._store = store
        self._known: dict[str, tuple[Object, Found]] = {}

    @property
    def log(self) -> RolloutStore:
        return self._log

    async def rollout(self, name: str) -> Found:
        self._refuse_unlisted()
        try:
            one = self._shown.named(name)
        except NotFound:
            raise NotFound(
                f"there is no Rollout {name!r} in namespace {self._cache.selection.namespace}",
                remedy="kubectl get rollouts.phoenix-orch.io lists them",
            ) from None
        return self._found(one)

    async def rollouts(self) -> list[Found]:
        self._refuse_unlisted()
        there = self._shown.all()
        for gone in set(self._known) - {one.name for one in there}:
            del self._known[gone]
        return [self._found(one) for one in sorted(there, key=lambda one: one.name)]

    async def scene(self, one: Declared) -> Scene:
        for cache in self._watches.caches:
            _refuse_unlisted(cache)
        return self._watches.scene(one.namespace, one.spec.workload.name, one.spec.canary_name)

    def _found(self, one: Declared) -> Found:
        """Raises NotFound for what has gone this moment."""
        now = self._cache.get(one.name, one.namespace)
        if now is None:
            raise NotFound(f"the Rollout {one.name} was deleted")
        before = self._known.get(one.name)
        if before is None or before[0] is not now:
            found = Found(one=one, status=record.status_of(now), router=self._router, store=self._store)
            self._known[one.name] = before = now, found
        return before[1]

    def _refuse_unlisted(self) -> None:
        _refuse_unlisted(self._cache)


def _refuse_unlisted(cache: Cache) -> None:
    """Raises Unavailable before the first list: nothing known is not nothing there."""
    if not cache.is_synced:
        why = cache.fault.message if cache.fault is not None else "this process has just begun"
        raise Unavailable(
            f"the {cache.selection.resource.plural} of the cluster are not listed yet: {why}",
            remedy="ask again in a moment; an abort is obeyed all the same",
        )

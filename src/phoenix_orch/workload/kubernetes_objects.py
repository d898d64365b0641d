"""What is read of a namespace, from watches that all workloads share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.caches import Caches
from phoenix_orch.kube.client import PAGE
from phoenix_orch.kube.index import Index
from phoenix_orch.kube.pruning import Prune, without_bookkeeping
from phoenix_orch.kube.resources import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    SECRETS,
    SERVICES,
    Object,
    Resource,
    key_of,
)
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.manifest import (
    Manifest,
    at,
    controller,
    labels,
    mapping,
    uid_of,
)
from phoenix_orch.workload.deployment.revision import Reference, digested
from phoenix_orch.workload.deployment.scene import Scene, needed
from phoenix_orch.workload.deployment.selectors import Surroundings, service_selector

OTHER_SECRETS = "type!=helm.sh/release.v1"
"""Field selector of the Secrets that pods may refer to. Helm keeps every release of a chart in one of up to
1 MB, which no pod reads."""
SECRETS_PAGE = 50
"""Secrets listed at a time: some 75 MB of the largest that etcd takes, where processes have 512 Mi."""

CATCHING_UP = 5.0
"""Seconds a write waits until the watch shows it. Later reads may be old then; writes stay conditional."""


def _config_map(found: Object) -> Object:
    return digested("ConfigMap", found)


def _secret(found: Object) -> Object:
    return digested("Secret", found)


def _owner(found: Object) -> tuple[str]:
    owner = controller(found)
    return (str(owner.get("uid")) if owner is not None else "",)


def _namespace(found: Object) -> tuple[str]:
    return (key_of(found).namespace,)


def _scaled(found: Object) -> tuple[str]:
    """Namespace and name of what an autoscaler scales."""
    return (f"{key_of(found).namespace}/{at(found, 'spec', 'scaleTargetRef', 'name')}",)


def _selected(found: Object, selector: Manifest | None) -> tuple[str, ...]:
    """One of the labels that selected pods must have, with the namespace; none where there is no selector."""
    if selector is None:
        return ()
    return (_label(key_of(found).namespace, min(mapping(selector, "matchLabels").items(), default=_ANY)),)


def _label(namespace: str, pair: tuple[str, str]) -> str:
    return f"{namespace}/{'='.join(pair)}"


_ANY = ("", "")
"""Of selectors that ask for no label's value."""


def _of_service(found: Object) -> tuple[str, ...]:
    made_for = labels(found).get(marks.ROLLOUT)
    ours = (f"rollout {key_of(found).namespace}/{made_for}",) if made_for is not None else ()
    return (*_selected(found, service_selector(found)), *ours)


def _of_budget(found: Object) -> tuple[str, ...]:
    return _selected(found, mapping(found, "spec", "selector"))


class Around:
    """What selects pods, found by the labels of those."""

    def __init__(self, services: Cache, budgets: Cache) -> None:
        self._named = services
        self._services = Index(services, _of_service)
        self._budgets = Index(budgets, _of_budget)

    def service(self, namespace: str, name: str) -> Object | None:
        return self._named.get(name, namespace)

    def services_for(self, namespace: str, rollout: str) -> list[Object]:
        """Those that are marked as made for a Rollout."""
        return self._services[f"rollout {namespace}/{rollout}"]

    def pods_with(self, namespace: str, *pod_labels: Mapping[str, str]) -> Surroundings:
        """All that may select pods with these labels, and some that do not."""
        pairs = {_ANY, *(pair for one in pod_labels for pair in one.items())}
        words = [_label(namespace, pair) for pair in pairs]
        return Surroundings(self._services.having(words), self._budgets.having(words))


@dataclass(frozen=True, slots=True)
class Watches:
    """Of each kind that is read, those of one namespace or of all. No value of a Secret is kept in memory."""

    deployments: Cache
    config_maps: Cache
    secrets: Cache
    replica_sets: Index
    pods: Index
    around: Around
    autoscalers: Index
    """By what they scale."""
    caches: tuple[Cache, ...]

    @classmethod
    def of(cls, caches: Caches, watched: str | None = None) -> Watches:
        """`watched`: a namespace, `ALL_NAMESPACES`, or None for the client's."""
        every: list[Cache] = []

        def cache(
            resource: Resource, prune: Prune = without_bookkeeping, *, fields: str = "", page: int = PAGE
        ) -> Cache:
            every.append(caches.of(resource, watched, fields=fields, prune=prune, page=page))
            return every[-1]

        return cls(
            deployments=cache(DEPLOYMENTS),
            config_maps=cache(CONFIG_MAPS, _config_map),
            secrets=cache(SECRETS, _secret, fields=OTHER_SECRETS, page=SECRETS_PAGE),
            replica_sets=Index(cache(REPLICA_SETS), _owner),
            pods=Index(cache(PODS), _owner),
            around=Around(cache(SERVICES), cache(DISRUPTION_BUDGETS)),
            autoscalers=Index(cache(AUTOSCALERS), _scaled),
            caches=tuple(every),
        )

    async def synced(self) -> None:
        for cache in self.caches:
            await cache.synced()

    async def show(self, resource: Resource, written: Object) -> None:
        """Wait a moment until reads show what was written."""
        cache = next((one for one in self.caches if one.selection.resource == resource), None)
        if cache is not None:
            try:
                async with asyncio.timeout(CATCHING_UP):
                    await cache.shows(written)
            except TimeoutError:
                return

    def scene(self, namespace: str, stable_name: str, canary_name: str) -> Scene:
        """Raises NotFound where there is no stable Deployment."""
        stable = self.deployments.get(stable_name, namespace)
        if stable is None:
            raise NotFound(
                f"there is no Deployment {stable_name} in namespace {namespace}",
                remedy="apply it, or name another one in the Rollout",
            )
        canary = self.deployments.get(canary_name, namespace)
        both = [one for one in (stable, canary) if one is not None]
        sets = [one for owner in both for one in self.replica_sets[uid_of(owner)]]
        return Scene(
            stable=stable,
            canary=canary,
            replica_sets=sets,
            pods=[pod for one in sets for pod in self.pods[uid_of(one)]],
            around=self.around.pods_with(namespace, *(labels(one["spec"]["template"]) for one in both)),
            autoscalers=[
                scaler
                for name in (stable_name, canary_name)
                for scaler in self.autoscalers[f"{namespace}/{name}"]
            ],
            contents=self._contents(namespace, needed([*both, *sets])),
        )

    def _contents(self, namespace: str, wanted: Iterable[Reference]) -> dict[Reference, Manifest | None]:
        kinds = {"ConfigMap": self.config_maps, "Secret": self.secrets}
        return {one: kinds[one.kind].get(one.name, namespace) for one in wanted}

"""The Rollouts of the namespace as they stand, from one watch: who is released, and by which route."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from phoenix_orch.kernel.errors import NotFound, Terminal
from phoenix_orch.kube.resources import Key, Object, key_of, version_of
from phoenix_orch.rollout.kubernetes_spec import KubernetesRolloutSpec
from phoenix_orch.rollout.status import Rollout
from phoenix_orch.rollout.store import kubernetes_record as record
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.workload.deployment.size import Sizing
from phoenix_orch.workload.deployment.target import Holder
from phoenix_orch.workload.kubernetes import DeploymentSpec


@dataclass(frozen=True, slots=True)
class Declared:
    """One Rollout."""

    uid: str
    namespace: str
    spec: KubernetesRolloutSpec
    rollout: Rollout

    @property
    def name(self) -> str:
        return self.rollout.name

    def deployment(self) -> DeploymentSpec:
        """Which Deployment is released, and for whom."""
        return DeploymentSpec(
            namespace=self.namespace,
            stable=self.spec.workload.name,
            canary=self.spec.canary_name,
            rollout=Holder(self.name, self.uid),
            sizing=Sizing(minimum=self.spec.canary.min_replicas),
        )


class Rollouts:
    """What a watch shows of them. Of several with the same route or Deployment the oldest counts."""

    def __init__(self, cache: Iterable[Object]) -> None:
        """`cache`: what is looked at anew each time."""
        self._cache = cache
        self._read: dict[Key, tuple[str, Declared | None]] = {}
        self._faults = Faults(structlog.get_logger("phoenix.rollouts"))

    def all(self) -> list[Declared]:
        """Those that can be read, the oldest first."""
        found = sorted(self._cache, key=lambda one: (one["metadata"]["creationTimestamp"], key_of(one)))
        self._read = {key: kept for key, kept in self._read.items() if key in {key_of(one) for one in found}}
        return [one for one in map(self._declared, found) if one is not None]

    def named(self, name: str) -> Declared:
        """Raises NotFound."""
        return self._first(f"Rollout {name}", lambda one: one.name == name)

    def of_route(self, route: str) -> Declared:
        """Raises NotFound."""
        return self._first(f"Rollout of route {route}", lambda one: one.rollout.route == route)

    def of_service(self, service: str) -> Declared:
        """Raises NotFound."""
        return self._first(f"Rollout of Deployment {service}", lambda one: one.rollout.service == service)

    def uids(self) -> frozenset[str]:
        return frozenset(record.uid_of(one) for one in self._cache)

    def routes(self) -> frozenset[str]:
        """What carries the weight of any of them, also of those that cannot be read."""
        traffics = [one.get("spec", {}).get("traffic", {}) for one in self._cache]
        return frozenset(str(one.get("ingress") or one.get("httpRoute")) for one in traffics)

    def _first(self, what: str, fits: Callable[[Declared], bool]) -> Declared:
        found = next((one for one in self.all() if fits(one)), None)
        if found is None:
            raise NotFound(f"there is no {what}", remedy="kubectl get rollouts.phoenix-orch.io lists them")
        return found

    def _declared(self, found: Object) -> Declared | None:
        key, version = key_of(found), version_of(found)
        known = self._read.get(key)
        if known is None or known[0] != version:
            known = self._read[key] = version, self._parsed(found, key)
        return known[1]

    def _parsed(self, found: Object, key: Key) -> Declared | None:
        try:
            one = Declared(
                record.uid_of(found), key.namespace, record.spec_of(found), record.rollout_of(found)
            )
        except Terminal as error:
            self._faults.tell(key.name, "reading", error=error)
            return None
        self._faults.mended(key.name, "reading")
        return one

"""The Rollouts of the namespace as they stand, from one watch: who is released, and by which route."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

import structlog

from phoenix_orch.kernel.errors import NotFound, Terminal
from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.resources import Key, Object, key_of
from phoenix_orch.rollout.conditions import Condition
from phoenix_orch.rollout.kubernetes_spec import KubernetesRolloutSpec
from phoenix_orch.rollout.status import Rollout
from phoenix_orch.rollout.store import kubernetes_record as record
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.workload.deployment.refusal import Refusal
from phoenix_orch.workload.deployment.size import Sizing
from phoenix_orch.workload.deployment.target import Holder
from phoenix_orch.workload.kubernetes import DeploymentSpec

AT_ONCE = 20
"""Objects that are read in one go, in some ten milliseconds."""


class Carrier(NamedTuple):
    """An object that carries the weight of a route, or beside which another one does."""

    kind: Literal["Ingress", "HTTPRoute"]
    route: str
    """The route it is steered for, named as the first of its objects."""
    name: str


@dataclass(frozen=True, slots=True)
class Declared:
    """One Rollout."""

    uid: str
    namespace: str
    spec: KubernetesRolloutSpec
    rollout: Rollout
    generation: int = 0
    conditions: tuple[Condition, ...] = ()

    @property
    def name(self) -> str:
        return self.rollout.name

    def carriers(self) -> frozenset[Carrier]:
        """What carries its weight."""
        return _carriers(
            self.spec.traffic.ingress, self.spec.traffic.http_route, self.spec.traffic.additional
        )

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
    """What is known of them. Of several with the same route or Deployment the oldest counts.

    An object is read once, when it is first asked for after it changed, and found by name without a look
    at all others: there may be ten thousand at rest.
    """

    def __init__(self, found: Iterable[Object] = ()) -> None:
        """Those of a moment; `watching` follows them."""
        self._objects = {key_of(one): one for one in found}
        self._changed = dict.fromkeys(self._objects)
        self._known: dict[Key, _Read] = {}
        self._by_word: dict[_Word, set[Key]] = {}
        self._in_order: list[Declared] | None = None
        self._uids: frozenset[str] | None = None
        self._faults = Faults(structlog.get_logger("phoenix.rollouts"))

    @classmethod
    def watching(cls, cache: Cache) -> Rollouts:
        rollouts = cls()
        cache.subscribe(lambda key: rollouts._now(key, cache.get(key.name, key.namespace)))
        return rollouts

    def all(self) -> list[Declared]:
        """Those that can be read, the oldest first; the very same list until one of them changes."""
        self._catch_up()
        if self._in_order is None:
            readable = [one for one in self._known.values() if one.declared is not None]
            self._in_order = [one.declared for one in sorted(readable, key=_Read.age) if one.declared]
        return self._in_order

    def named(self, name: str) -> Declared:
        """Raises NotFound."""
        return self._first(f"Rollout {name}", _Word("name", name))

    def of_route(self, route: str) -> Declared:
        """Raises NotFound."""
        return self._first(f"Rollout of route {route}", _Word("route", route))

    def of_service(self, service: str) -> Declared:
        """Raises NotFound."""
        return self._first(f"Rollout of Deployment {service}", _Word("service", service))

    def of_deployment(self, name: str) -> list[str]:
        """Names of those of which it is stable or the canary."""
        self._catch_up()
        return sorted(key.name for key in self._by_word.get(_Word("deployment", name), ()))

    def refusals(self, one: Declared) -> list[Refusal]:
        """Why nothing is released by `one`: an older Rollout has its route."""
        older = self.of_route(one.rollout.route)
        if older.name == one.name:
            return []
        return [
            Refusal(
                "RouteOfAnother",
                f"{one.rollout.route} carries the weight of the Rollout {older.name}",
                f"delete one of the Rollouts {older.name} and {one.name}, or name another route",
            )
        ]

    def uids(self) -> frozenset[str]:
        """Of all, also of those that cannot be read."""
        if self._uids is None:
            self._uids = frozenset(record.uid_of(one) for one in self._objects.values())
        return self._uids

    def carriers(self) -> frozenset[Carrier]:
        """What carries the weight of any of them, also of those that cannot be read."""
        traffics = [one.get("spec", {}).get("traffic", {}) for one in self._objects.values()]
        return frozenset(
            carrier
            for one in traffics
            for carrier in _carriers(one.get("ingress"), one.get("httpRoute"), one.get("additional") or ())
        )

    async def read(self) -> None:
        """Read what has changed, a few at a time so that nothing else has to wait."""
        while self._changed:
            self._catch_up(AT_ONCE)
            await asyncio.sleep(0)

    def _now(self, key: Key, found: Object | None) -> None:
        before = self._objects.pop(key, None)
        if found is not None:
            self._objects[key] = found
        if before is None or found is None or record.uid_of(before) != record.uid_of(found):
            self._uids = None
        self._changed[key] = None

    def _catch_up(self, most: int | None = None) -> None:
        for key in list(islice(self._changed, most)):
            del self._changed[key]
            self._read_anew(key)
            self._in_order = None

    def _read_anew(self, key: Key) -> None:
        if (before := self._known.pop(key, None)) is not None:
            for word in before.words():
                self._by_word[word].discard(key)
                if not self._by_word[word]:
                    del self._by_word[word]
        if (found := self._objects.get(key)) is not None:
            self._known[key] = read = _Read(found, self._parsed(found, key))
            for word in read.words():
                self._by_word.setdefault(word, set()).add(key)

    def _first(self, what: str, word: _Word) -> Declared:
        self._catch_up()
        found = (self._known[key] for key in self._by_word.get(word, ()))
        oldest = min(found, key=_Read.age, default=None)
        if oldest is None or oldest.declared is None:
            raise NotFound(f"there is no {what}", remedy="kubectl get rollouts.phoenix-orch.io lists them")
        return oldest.declared

    def _parsed(self, found: Object, key: Key) -> Declared | None:
        try:
            one = Declared(
                uid=record.uid_of(found),
                namespace=key.namespace,
                spec=record.spec_of(found),
                rollout=record.rollout_of(found),
                generation=found["metadata"].get("generation", 0),
                conditions=record.status_of(found).conditions,
            )
        except Terminal as error:
            self._faults.tell(key.name, "reading", error=error)
            return None
        self._faults.mended(key.name, "reading")
        return one


def _carriers(ingress: str | None, http_route: str | None, additional: Iterable[str]) -> frozenset[Carrier]:
    kind: Literal["Ingress", "HTTPRoute"] = "Ingress" if ingress else "HTTPRoute"
    route = str(ingress or http_route)
    return frozenset(Carrier(kind, route, name) for name in (route, *additional))


class _Word(NamedTuple):
    """What a Rollout is looked for by."""

    kind: Literal["name", "route", "service", "deployment"]
    text: str


@dataclass(frozen=True, slots=True)
class _Read:
    """An object, and what was read of it; None where it cannot be read."""

    found: Object
    declared: Declared | None

    def age(self) -> tuple[str, Key]:
        return self.found["metadata"]["creationTimestamp"], key_of(self.found)

    def words(self) -> set[_Word]:
        if (one := self.declared) is None:
            return set()
        return {
            _Word("name", one.name),
            _Word("route", one.rollout.route),
            _Word("service", one.rollout.service),
            _Word("deployment", one.spec.workload.name),
            _Word("deployment", one.spec.canary_name),
        }

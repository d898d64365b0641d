"""A shop that is released by Phoenix on a real API server without nodes: who is missing is played here.

A kubelet that makes pods ready, a data plane that obeys at once and answers for its routes, a Prometheus
whose counters follow the weight, and a person. Everything else is real: the API server, the controllers of
Deployments, Phoenix.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.cluster import rollouts
from tests.cluster.in_process import InProcess
from tests.cluster.kubectl import Cluster
from tests.cluster.pods import Kubelet
from tests.cluster.routing import edit
from tests.cluster.scripted_prometheus import ScriptedPrometheus, Variant, serving
from tests.unit.kube_objects import endpoints

from phoenix_orch.kernel.errors import Conflict, NotFound
from phoenix_orch.kube.caches import Caches
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import Target, load
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    HTTP_ROUTES,
    INGRESSES,
    ROLLOUTS,
    Object,
    Resource,
)
from phoenix_orch.orchestrator.cluster import person
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.cluster.reach import reached
from phoenix_orch.rollout.status import CommandKind
from phoenix_orch.rollout.store.valkey import ValkeyStore

RouterKind = Literal["ingress", "httpRoute"]
ROUTERS: tuple[RouterKind, ...] = ("ingress", "httpRoute")
NAME, CANARY = "shop", "shop-canary"
HOST = "shop.example.com"
NGINX = "nginx.ingress.kubernetes.io/"
CANARY_WEIGHT = f"{NGINX}canary-weight"
PATIENCE = 180.0
"""Seconds; the machine may be busy with ten other things."""
LIMITS = {"errorRate": "1%"}
WALK: tuple[Mapping[str, Any], ...] = (
    {"name": "initial", "weight": 20, "duration": "1s", "limits": LIMITS},
    {"name": "full", "step": 40, "every": "1s", "limits": LIMITS},
)
"""20, 60, 100."""


def deployment(name: str, image: str, *, replicas: int | None = None, **metadata: Any) -> Object:
    """`replicas` left out: Phoenix sets them."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, **metadata},
        "spec": {
            **({} if replicas is None else {"replicas": replicas}),
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "shop", "image": image}]},
            },
        },
    }


def service(name: str = NAME) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def main_ingress(name: str = NAME, **metadata: Any) -> Object:
    backend = {"service": {"name": name, "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, **metadata},
        "spec": {"ingressClassName": "nginx", "rules": [{"host": HOST, "http": {"paths": paths}}]},
    }


def main_route(*rules: Object, marked: bool = True) -> Object:
    """Of the user: the mark says that Phoenix may change it. `rules`: further ones."""
    first = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "backendRefs": [{"name": NAME, "port": 80}],
    }
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": NAME, "labels": {"phoenix-orch.io/route": NAME} if marked else {}},
        "spec": {"parentRefs": [{"name": "gateway"}], "hostnames": [HOST], "rules": [first, *rules]},
    }


def weight_on(carrier: Object) -> int:
    """What the canary's Service gets, in per cent, read as the data plane reads it."""
    if carrier["spec"].get("rules") and "backendRefs" in carrier["spec"]["rules"][0]:
        refs = carrier["spec"]["rules"][0]["backendRefs"]
        weights: dict[str, int] = {one["name"]: one.get("weight", 1) for one in refs}
        return round(100 * weights.get(CANARY, 0) / max(1, sum(weights.values())))
    return int((carrier["metadata"].get("annotations") or {}).get(CANARY_WEIGHT, 0))


@dataclass
class DataPlane:
    """Obeys the object that carries the weight, and remembers every weight it was given."""

    client: KubeClient
    router: RouterKind
    weights: list[int] = field(default_factory=lambda: [0])
    """One after the other, each different from the one before."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def share(self) -> int:
        return self.weights[-1]

    @property
    def resource(self) -> Resource:
        return INGRESSES if self.router == "ingress" else HTTP_ROUTES

    @property
    def carrier(self) -> str:
        return CANARY if self.router == "ingress" else NAME

    @contextlib.asynccontextmanager
    async def running(self, *, answers: bool) -> AsyncIterator[None]:
        """`answers`: as the Gateway, for routes."""
        async with Caches(self.client) as caches:
            cache = caches.of(self.resource)

            def look() -> None:
                found = cache.get(self.carrier, self.client.namespace)
                weight = weight_on(found) if found is not None else 0
                if weight != self.share():
                    self.weights.append(weight)
                self._changed.set()

            cache.subscribe(lambda _: look())
            await cache.synced()
            look()
            task = asyncio.create_task(self._answering() if answers else asyncio.sleep(0))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def _answering(self) -> None:
        while self.router == "httpRoute":
            await self._changed.wait()
            self._changed.clear()
            for found in (await self.client.list(HTTP_ROUTES)).items:
                with contextlib.suppress(Conflict, NotFound):
                    await self._answer(found)

    async def _answer(self, found: Object) -> None:
        parents = (found.get("status") or {}).get("parents") or []
        generation = found["metadata"]["generation"]
        if parents and parents[0]["conditions"][0]["observedGeneration"] == generation:
            return
        conditions = [
            {
                "type": kind,
                "status": "True",
                "reason": "Played",
                "message": "",
                "observedGeneration": generation,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            for kind in ("Accepted", "ResolvedRefs")
        ]
        parent = {
            "parentRef": {"name": "gateway"},
            "controllerName": "test.io/gateway",
            "conditions": conditions,
        }
        patch = merge_patch_of(found, {"status": {"parents": [parent]}})
        await self.client.patch(HTTP_ROUTES, found["metadata"]["name"], patch, subresource="status")


def prometheus_of(plane: DataPlane) -> ScriptedPrometheus:
    """Counts as the controller of that kind of object counts: ingress-nginx, or Traefik's Gateway."""
    namespace = plane.client.namespace
    if plane.router == "ingress":
        labels = {"namespace": namespace, "ingress": NAME, "service": NAME}
        return ScriptedPrometheus(
            "nginx_ingress_controller_requests",
            "status",
            stable=Variant({**labels, "canary": ""}),
            canary=Variant({**labels, "canary": f"{namespace}-{CANARY}-80"}),
            share=plane.share,
        )

    def of(name: str, place: int) -> Variant:
        way = f"httproute-{namespace}-{NAME}-gw-web-ep-web-0"
        return Variant({"service": f"{way}-svc-{namespace}-{name}-{place}@kubernetesgateway"})

    return ScriptedPrometheus(
        "traefik_service_requests_total", "code", stable=of(NAME, 0), canary=of(CANARY, 1), share=plane.share
    )


@dataclass
class World:
    """One namespace."""

    cluster: Cluster
    router: RouterKind
    client: KubeClient
    """The administrator's."""
    plane: DataPlane
    kubelet: Kubelet
    prometheus: ScriptedPrometheus
    phoenix: InProcess
    log: ValkeyStore
    stable: Object = field(default_factory=dict)
    """Spec of the Deployment before the first release."""

    @property
    def namespace(self) -> str:
        return self.client.namespace

    # -- what users do -----------------------------------------------------------------------------

    async def apply(self, *objects: Object) -> None:
        for one in objects:
            one["metadata"]["namespace"] = self.namespace
        await asyncio.to_thread(self.cluster.apply, *objects)

    async def kubectl(self, *words: str) -> str:
        return await asyncio.to_thread(self.cluster.kubectl, *words, "--namespace", self.namespace)

    def way(self) -> Object:
        """The object by which users reach the shop."""
        return main_ingress() if self.router == "ingress" else main_route()

    def rollout(self, name: str = NAME, **parts: Any) -> Object:
        policy = {"bake": "1s", **parts.pop("policy", {})}
        requests = "ingress-nginx" if self.router == "ingress" else "traefik"
        spec = {
            "workload": {"name": NAME},
            "traffic": {self.router: NAME},
            "phases": list(WALK),
            "evidence": {"interval": "500ms", "window": "2s", "requests": requests},
            "policy": policy,
            **parts,
        }
        return rollouts.manifest(spec, name, self.namespace)

    async def set_up(self, way: Object | None = None, **parts: Any) -> None:
        """Stable in version 1 with its way, and a Rollout; `parts` of its spec. Returns at rest."""
        await self.apply(
            deployment(NAME, "shop:1", replicas=2), service(), way or self.way(), self.rollout(**parts)
        )
        await self.state("Idle")
        self.stable = (await self.get(DEPLOYMENTS, NAME))["spec"]

    async def release(self, image: str) -> None:
        """As `kubectl apply -f k8s/canary/deployment.yaml` does."""
        await self.apply(deployment(CANARY, image))

    async def say(self, kind: CommandKind, *, reason: str = "") -> None:
        """What `phoenix rollout KIND shop --kubernetes` does."""
        async with reached(self._access()) as there:
            await person.say(there, NAME, kind, reason=reason, step=None, dry_run=False)

    async def abort(self, reason: str = "by a test") -> person.AbortedInCluster:
        """What `phoenix rollout abort shop --kubernetes` does."""
        async with reached(self._access()) as there:
            return await person.abort(there, NAME, reason=reason, dry_run=False)

    def _access(self) -> Access:
        return Access(namespace=self.namespace, kubeconfig=self.cluster.kubeconfig)

    async def change(self, resource: Resource, name: str, changes: dict[str, Any]) -> Object:
        """Somebody's change, whoever writes beside it."""
        while True:
            with contextlib.suppress(Conflict):
                return await edit(self.client, resource, name, changes)

    async def serve(self, name: str, *, ready: bool) -> None:
        """Whether the Service has an endpoint."""
        with contextlib.suppress(NotFound):
            await self.client.delete(ENDPOINT_SLICES, name, self.namespace)
        await self.client.create(ENDPOINT_SLICES, endpoints(name, ready=ready))

    # -- what is -----------------------------------------------------------------------------------

    async def get(self, resource: Resource, name: str) -> Object:
        return await self.client.get(resource, name)

    async def find(self, resource: Resource, name: str) -> Object | None:
        try:
            return await self.client.get(resource, name)
        except NotFound:
            return None

    async def status(self, name: str = NAME) -> dict[str, Any]:
        found: dict[str, Any] = (await self.get(ROLLOUTS, name)).get("status", {})
        return found

    async def condition(self, kind: str, name: str = NAME) -> dict[str, Any]:
        """Empty where it is not there yet."""
        conditions = (await self.status(name)).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {})

    async def carrier(self) -> Object:
        return await self.get(self.plane.resource, self.plane.carrier)

    async def latch(self) -> str:
        return str((await self.carrier())["metadata"].get("annotations", {}).get("phoenix-orch.io/abort", ""))

    async def image(self, name: str = NAME) -> str:
        spec = (await self.get(DEPLOYMENTS, name))["spec"]["template"]["spec"]
        return str(spec["containers"][0]["image"])

    async def replicas(self, name: str) -> int:
        return int((await self.get(DEPLOYMENTS, name))["spec"]["replicas"])

    async def told(self) -> list[str]:
        """Reasons of the events so far."""
        return [event.reason for event in await self.log.events(NAME, limit=1000)]

    # -- waiting -----------------------------------------------------------------------------------

    async def until(self, what: str, condition: Callable[[], Awaitable[bool]]) -> None:
        give_up = time.monotonic() + PATIENCE
        while not await condition():
            assert not self.phoenix.ended(), f"ended: {self.phoenix.ended()}"
            assert time.monotonic() < give_up, f"did not come: {what}\n{await self.describe()}"
            await asyncio.sleep(0.05)

    async def state(self, *states: str) -> None:
        async def reached() -> bool:
            return (await self.status()).get("state") in states

        await self.until(" or ".join(states), reached)

    async def weight(self, weight: int) -> None:
        """Until the data plane has it."""

        async def reached() -> bool:
            return self.plane.share() == weight

        await self.until(f"weight {weight}", reached)

    async def questions(self, more: int) -> None:
        """Until Prometheus was asked so many times more: that long the validator has looked on."""
        goal = self.prometheus.asked + more

        async def asked() -> bool:
            return self.prometheus.asked >= goal

        await self.until(f"{more} questions", asked)

    async def stalled(self, reason: str, name: str = NAME) -> str:
        """Wait for the condition; its message."""

        async def so() -> bool:
            found = await self.condition("Stalled", name)
            return (found.get("status"), found.get("reason")) == ("True", reason)

        await self.until(f"stalled: {reason}", so)
        return str((await self.condition("Stalled", name))["message"])

    async def describe(self) -> str:
        names = [one["metadata"]["name"] for one in (await self.client.list(ROLLOUTS)).items]
        return "\n".join([await self._described(name) for name in names])

    async def _described(self, name: str) -> str:
        status = await self.status(name)
        shown = {key: status.get(key) for key in ("state", "message", "step", "weight", "verdict", "cause")}
        return json.dumps({**shown, "seen": self.plane.weights, "conditions": status.get("conditions")})


@contextlib.asynccontextmanager
async def a_world(
    cluster: Cluster,
    namespace: str,
    router: RouterKind,
    *,
    log: str,
    target: Callable[[Target], Target] = lambda real: real,
    answers: bool = True,
    serves: Sequence[str] = (NAME, CANARY),
) -> AsyncIterator[World]:
    """`log`: address of a Valkey. `target`: the API server as Phoenix reaches it. `answers`: the data plane
    answers for its routes, since no other one does. `serves`: Services that are given an endpoint."""
    real = load(cluster.kubeconfig, namespace=namespace)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(KubeClient(real, manager="somebody"))
        for name in serves:
            await client.create(ENDPOINT_SLICES, endpoints(name))
        plane = DataPlane(client, router)
        await stack.enter_async_context(plane.running(answers=answers))
        kubelet = await stack.enter_async_context(Kubelet(client, namespace).running())
        prometheus = stack.enter_context(serving(prometheus_of(plane)))
        phoenix = InProcess(target(real), log=log, prometheus=prometheus.url)
        events = ValkeyStore(log, prefix=f"phoenix:{namespace}:")
        stack.push_async_callback(events.close)
        stack.push_async_callback(phoenix.stop)
        await phoenix.start()
        yield World(cluster, router, client, plane, kubelet, prometheus, phoenix, events)

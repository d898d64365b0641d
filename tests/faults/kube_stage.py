"""A service in a namespace of a real API server, ready to be released, and everything that happens to it.

There are no nodes: a `Kubelet` says that pods are ready, and a Gateway's answer is written here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tests.cluster import gateway_crds, rollouts
from tests.cluster.kubectl import Cluster
from tests.cluster.pods import Kubelet
from tests.faults.kube_history import Change, View
from tests.unit.kube_objects import endpoints, http_route, rule
from tests.unit.kube_objects import shop as ingress

from phoenix_orch.kernel.errors import Conflict, NotFound, PhoenixError
from phoenix_orch.kube.client import KubeClient, Selection
from phoenix_orch.kube.config import Target, load
from phoenix_orch.kube.errors import Gone
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    HTTP_ROUTES,
    INGRESSES,
    LEASES,
    NAMESPACES,
    ROLLOUTS,
    SERVICES,
    Object,
    Resource,
)
from phoenix_orch.kube.watch_events import Lines, Unreadable, event_of
from phoenix_orch.orchestrator.cluster.parts import LEASES as LEASE_NAMES
from phoenix_orch.traffic.kube_record import ROUTE

NAME = "web"
CANARY = f"{NAME}-canary"
REPLICAS = 2
INGRESS, ROUTER_OBJECT = "ingress", {"ingress": INGRESSES, "httpRoute": HTTP_ROUTES}
HTTP_ROUTE = "httpRoute"
CANARY_WEIGHT = "nginx.ingress.kubernetes.io/canary-weight"
ROUTERS = (INGRESS, HTTP_ROUTE)
SPEC: dict[str, Any] = {
    "workload": {"name": NAME},
    "phases": [
        {"name": "initial", "weight": 20, "duration": "2s", "limits": {"errorRate": "1%"}},
        {"name": "full", "step": 80, "every": "2s", "limits": {"errorRate": "1%"}},
    ],
    "evidence": {"interval": "500ms", "window": "2s"},
    "policy": {"bake": "1s"},
}


def deployment(name: str, image: str, replicas: int) -> Object:
    labels = {"app": name}
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "shop", "image": image}]},
            },
        },
    }


def service(name: str) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


class Stage:
    """The service `web` with a Rollout, in a namespace of its own."""

    def __init__(self, kube: KubeClient, kubelet: Kubelet, router: str, spec: Object) -> None:
        self.kube = kube
        self.kubelet = kubelet
        self.router = router
        self.spec = {**spec, "traffic": {router: NAME}}
        self.changes: list[Change] = []
        self.view = View(NAME, REPLICAS)
        self.first: dict[tuple[str, str], Object] = {}
        """What the owner of the service has applied, by plural and name."""
        self._changed = asyncio.Event()

    @property
    def namespace(self) -> str:
        return self.kube.namespace

    @property
    def carrier(self) -> tuple[Resource, str]:
        """What carries the weight."""
        return (INGRESSES, CANARY) if self.router == INGRESS else (HTTP_ROUTES, NAME)

    async def set_up(self) -> None:
        await self._apply(DEPLOYMENTS, deployment(NAME, "shop:1", REPLICAS))
        await self._apply(SERVICES, service(NAME))
        for one in (NAME, CANARY):
            await self.kube.create(ENDPOINT_SLICES, endpoints(one))
        if self.router == INGRESS:
            await self._apply(INGRESSES, ingress(NAME))
        else:
            await self._apply(HTTP_ROUTES, http_route(NAME, rule((NAME, None)), labels={ROUTE: NAME}))
        for lease in LEASE_NAMES.values():
            await self.kube.create(LEASES, {"metadata": {"name": lease}})
        await self.until("stable serves", lambda view: view.ready(NAME) == REPLICAS)
        await self.kube.create(ROLLOUTS, rollouts.manifest(self.spec, NAME, self.namespace))

    async def _apply(self, resource: Resource, body: Object) -> None:
        self.first[resource.plural, body["metadata"]["name"]] = body
        await self.kube.create(resource, body)

    async def release(self, image: str = "shop:2") -> None:
        """As `kubectl apply -f k8s/canary/deployment.yaml` does it for the first time."""
        await self.kube.create(DEPLOYMENTS, deployment(CANARY, image, 1))

    async def edit(self, resource: Resource, name: str, changes: Object, *, subresource: str = "") -> Object:
        """Somebody's change of an object, on whatever version it has."""
        while True:
            found = await self.kube.get(resource, name)
            with contextlib.suppress(Conflict):
                patch = merge_patch_of(found, changes)
                return await self.kube.patch(resource, name, patch, subresource=subresource)

    async def drift(self) -> int:
        """Somebody sends one per cent to the canary, whatever Phoenix has written. The version of that."""
        resource, name = self.carrier
        if self.router == INGRESS:
            changes: Object = {"metadata": {"annotations": {CANARY_WEIGHT: "1"}}}
        else:
            found = await self.kube.get(resource, name)
            rules = [
                {**rule, "backendRefs": [_with_weight(ref) for ref in rule["backendRefs"]]}
                for rule in found["spec"]["rules"]
            ]
            changes = {"spec": {"rules": rules}}
        return int((await self.edit(resource, name, changes))["metadata"]["resourceVersion"])

    def put_back(self, version: int) -> bool:
        """What `drift` did with this version is undone."""
        found = self.view.carrier
        if found is None or int(found["metadata"]["resourceVersion"]) <= version:
            return False
        if self.router == INGRESS:
            return bool(found["metadata"]["annotations"].get(CANARY_WEIGHT) != "1")
        return all(ref.get("weight") != 1 for ref in found["spec"]["rules"][0]["backendRefs"])

    async def until(
        self,
        what: str,
        holds: Callable[[View], bool],
        seconds: float = 60.0,
        told: Callable[[], str] = str,
    ) -> None:
        """Wait for it, as far as watches show; fail with `told()` when it does not come."""
        try:
            async with asyncio.timeout(seconds):
                while not holds(self.view):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            status = json.dumps(self.view.status, indent=1)
            raise AssertionError(f"not within {seconds:g} s: {what}\n{status}\n{told()}") from None

    async def follow(self, resource: Resource) -> None:
        """Note every change of these objects, until cancelled."""
        version, there = "", dict[str, Object]()
        while True:
            try:
                if not version:
                    page = await self.kube.list(resource)
                    listed = {one["metadata"]["name"]: {"kind": resource.kind, **one} for one in page.items}
                    version = page.version
                    for name in there.keys() - listed:
                        self._note(Change(int(version), there[name], deleted=True))
                    for found in listed.values():
                        self._note(Change(int(version), found))
                    there = listed
                async for change in self._events(resource, version):
                    version = str(change.version)
                    if change.found["kind"] == resource.kind:
                        there.pop(change.found["metadata"]["name"], None)
                        if not change.deleted:
                            there[change.found["metadata"]["name"]] = change.found
                        self._note(change)
            except Gone:
                version = ""  # the API server does not know any more what came after it
            except (PhoenixError, Unreadable):
                pass  # of an API server with much else to do: go on where we were
            await asyncio.sleep(0.05)

    async def _events(self, resource: Resource, version: str) -> AsyncIterator[Change]:
        """Ends, or raises PhoenixError or Unreadable, where the watch does; Gone: list anew."""
        selection = Selection(resource, self.namespace)
        async with self.kube.watch(selection, version=version, seconds=600) as streamed:
            lines = Lines()
            async for piece in streamed.pieces(600):
                for event in map(event_of, lines.feed(piece)):
                    if event.type == "ERROR":
                        raise Gone(f"the watch of {resource.plural} cannot go on")
                    kind = "" if event.type == "BOOKMARK" else resource.kind
                    found = {**event.object, "kind": kind}
                    yield Change(int(event.version), found, deleted=event.type == "DELETED")

    def _note(self, change: Change) -> None:
        self.changes.append(change)
        self.view.after(change)
        self._changed.set()

    async def answer_as_gateway(self) -> None:
        """Accept each generation of the route, until cancelled."""
        while True:
            with contextlib.suppress(Conflict, NotFound):
                found = await self.kube.get(HTTP_ROUTES, NAME)
                generation = found["metadata"]["generation"]
                if _answered(found) != generation:
                    changes = merge_patch_of(found, {"status": {"parents": [_parent(generation)]}})
                    await self.kube.patch(HTTP_ROUTES, NAME, changes, subresource="status")
            await asyncio.sleep(0.1)


def _with_weight(ref: Object) -> Object:
    return {**ref, "weight": 1 if ref["name"] == CANARY else 99}


def _answered(found: Object) -> int:
    parents = found.get("status", {}).get("parents") or [{}]
    conditions = parents[0].get("conditions") or [{}]
    return int(conditions[0].get("observedGeneration", 0))


def _parent(generation: int) -> Object:
    conditions = [
        {
            "type": kind,
            "status": "True",
            "reason": "Test",
            "message": "",
            "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind in ("Accepted", "ResolvedRefs")
    ]
    return {"parentRef": {"name": "gateway"}, "controllerName": "test.io/gateway", "conditions": conditions}


@contextlib.asynccontextmanager
async def a_stage(
    cluster: Cluster, router: str = INGRESS, spec: Object | None = None
) -> AsyncIterator[Stage]:
    """Set up in a new namespace, which goes afterwards."""
    rollouts.define(cluster)
    gateway_crds.install(cluster)
    namespace = f"phoenix-test-{secrets.token_hex(4)}"
    async with KubeClient(load(cluster.kubeconfig, namespace=namespace)) as kube:
        await kube.create(NAMESPACES, {"metadata": {"name": namespace}})
        async with Kubelet(kube, namespace).running() as kubelet, asyncio.TaskGroup() as group:
            stage = Stage(kube, kubelet, router, spec or SPEC)
            followed = (ROLLOUTS, DEPLOYMENTS, ROUTER_OBJECT[router])
            tasks = [group.create_task(stage.follow(one)) for one in followed]
            if router == HTTP_ROUTE:
                tasks.append(group.create_task(stage.answer_as_gateway()))
            try:
                await stage.set_up()
                yield stage
            finally:
                for task in tasks:
                    task.cancel()
        await kube.delete(NAMESPACES, namespace)


def kubeconfig_of(target: Target, path: Path) -> Path:
    """A kubeconfig that leads to a proxy. A token is shown to it; a certificate it shows itself."""
    user = target.single.user
    token = {"token": user.token} if user is not None and user.token else {}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": target.server}}],
        "users": [{"name": "user", "user": token}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "user"}}],
        "current-context": "proxy",
    }
    path.write_text(json.dumps(content), "utf-8")
    return path

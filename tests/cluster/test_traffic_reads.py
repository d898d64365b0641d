"""What both routers ask the API server: nothing at rest, never something old, and only what they may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.cluster import gateway_crds
from tests.cluster.kubectl import Cluster
from tests.cluster.routing import client_of, edit, serving
from tests.unit.kube_objects import http_route, rule, shop

from phoenix_orch.kube.caches import Caches
from phoenix_orch.kube.client import KubeClient, Page
from phoenix_orch.kube.resources import HTTP_ROUTES, INGRESSES, Object, Resource
from phoenix_orch.testing.router_contract import CONTRACT, NEW, OLD, ROUTE, Check
from phoenix_orch.traffic.cached_reads import CachedReads
from phoenix_orch.traffic.gateway_api import GatewayRouter
from phoenix_orch.traffic.kube_router import KubernetesRouter
from phoenix_orch.traffic.kube_spec import GatewayTraffic, IngressTraffic, RouteRef
from phoenix_orch.traffic.nginx_ingress import NginxIngressRouter
from phoenix_orch.traffic.router import TrafficState

pytestmark = pytest.mark.anyio

RULES = {
    "ingress": [
        ("networking.k8s.io", "ingresses", ["get", "list", "create", "patch", "delete"]),
        ("discovery.k8s.io", "endpointslices", ["list"]),
    ],
    "gateway": [
        ("gateway.networking.k8s.io", "httproutes", ["get", "list", "patch"]),
        ("gateway.networking.k8s.io", "grpcroutes", ["get", "list", "patch"]),
        ("discovery.k8s.io", "endpointslices", ["list"]),
    ],
}
"""As docs/reference/traffic-kubernetes.md says."""


class Asked:
    """What the caches could not answer."""

    def __init__(self, client: KubeClient) -> None:
        self.manager, self.namespace = client.manager, client.namespace
        self.count = 0
        self._client = client

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        self.count += 1
        return await self._client.get(resource, name, namespace)

    async def list(self, resource: Resource, namespace: str | None = None, *, labels: str = "") -> Page:
        self.count += 1
        return await self._client.list(resource, namespace, labels=labels)


@pytest.fixture
async def client(cluster: Cluster, namespace: str) -> AsyncIterator[KubeClient]:
    gateway_crds.install(cluster)
    async with client_of(cluster, namespace) as client:
        for name in (ROUTE, "blog"):
            await client.create(INGRESSES, shop(name))
            await client.create(HTTP_ROUTES, http_route(name, rule((name, None))))
            await serving(client, name, f"{name}-canary")
        yield client


@pytest.fixture
async def asked(client: KubeClient) -> Asked:
    return Asked(client)


@pytest.fixture
async def cached(client: KubeClient, asked: Any) -> AsyncIterator[CachedReads]:
    async with Caches(client) as caches:
        for resource in (INGRESSES, HTTP_ROUTES):
            await caches.of(resource).synced()
        yield CachedReads(caches, asked)


def routing(kind: str, client: KubeClient, cached: CachedReads | None = None) -> KubernetesRouter[Any]:
    if kind == "ingress":
        ingress = NginxIngressRouter(client, client.namespace, settled=0.0, cached=cached)
        for name in (ROUTE, "blog"):
            ingress.declare(name, IngressTraffic(ingress=name))
        return ingress
    gateway = GatewayRouter(client, client.namespace, settled=0.0, cached=cached)
    for name in (ROUTE, "blog"):
        gateway.declare(name, GatewayTraffic(routes=(RouteRef(name=name),), service=name, claim=True))
    return gateway


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_contract_through_caches(check: Check, client: KubeClient, cached: CachedReads) -> None:
    await check(routing("ingress", client, cached))


@pytest.mark.parametrize("kind", RULES)
async def test_at_rest_nothing_is_asked_and_hands_are_seen(
    client: KubeClient, cached: CachedReads, asked: Asked, kind: str
) -> None:
    router = routing(kind, client, cached)
    state = await router.write(TrafficState(route=ROUTE, stable=OLD))
    for weight in range(1, 20):
        state = await router.write(state.model_copy(update={"canary": NEW, "weight": weight}))
        assert await router.read(ROUTE) == state  # never older than our own write
    while asked.count:  # until the watch has shown our last write
        asked.count = 0
        assert (await router.read(ROUTE)).weight == 19
        await asyncio.sleep(0.02)
    for _ in range(50):
        assert (await router.read(ROUTE)).weight == 19
        await router.observe(ROUTE)
    assert asked.count == 0
    if kind == "ingress":
        changes: dict[str, Any] = {"nginx.ingress.kubernetes.io/canary-weight": "70"}
        await edit(client, INGRESSES, f"{ROUTE}-canary", {"metadata": {"annotations": changes}})
    else:
        rules = [rule((ROUTE, 30), (f"{ROUTE}-canary", 70))]
        await edit(client, HTTP_ROUTES, ROUTE, {"spec": {"rules": rules}})
    async with asyncio.timeout(10):
        while not (seen := await router.read(ROUTE)).drifted:
            await asyncio.sleep(0.02)
    assert seen.weight == 70


@pytest.mark.parametrize("kind", RULES)
async def test_the_documented_permissions_are_enough(cluster: Cluster, client: KubeClient, kind: str) -> None:
    namespace = client.namespace
    user = cluster.service_account(namespace, "steering")
    api = "rbac.authorization.k8s.io/v1"
    listed = [
        {"apiGroups": [group], "resources": [what], "verbs": verbs} for group, what, verbs in RULES[kind]
    ]
    role = {"apiVersion": api, "kind": "Role", "metadata": {"name": "steering", "namespace": namespace}}
    subject = {"kind": "ServiceAccount", "name": "steering", "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "steering"}
    cluster.apply(
        {**role, "rules": listed},
        {**role, "kind": "RoleBinding", "subjects": [subject], "roleRef": reference},
    )
    async with client_of(Cluster(user, cluster.folder), namespace) as limited:
        router = routing(kind, limited)
        state = await router.write(TrafficState(route=ROUTE, stable=OLD))
        await router.write(state.model_copy(update={"canary": NEW, "weight": 5}))
        assert (await router.abort(ROUTE, "new")).weight == 0
        await router.clear_latch(ROUTE, "new")
        await router.observe(ROUTE)
        await router.release(ROUTE)

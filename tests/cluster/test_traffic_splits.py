"""What users get when the routers steer a real Traefik: shares, latches, chosen requests, hosts, TLS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster import gateway_crds
from tests.cluster.data_plane import Router, certificate, traefik, variants
from tests.cluster.kubectl import Cluster
from tests.cluster.routing import client_of
from tests.unit.kube_objects import http_route, ingress, path, rule

from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import HTTP_ROUTES, INGRESSES, Resource
from phoenix_orch.testing.router_contract import NEW, OLD, ROUTE, seen
from phoenix_orch.traffic.gateway_api import GatewayRouter
from phoenix_orch.traffic.kube_router import KubernetesRouter
from phoenix_orch.traffic.kube_spec import Chosen, GatewayTraffic, IngressTraffic, RouteRef
from phoenix_orch.traffic.nginx_ingress import NginxIngressRouter
from phoenix_orch.traffic.router import Backend, Group, TrafficSeen, TrafficState

pytestmark = pytest.mark.anyio

HOST, OTHER = "shop.example.com", "other.example.com"
GATEWAYS = Resource("gateway.networking.k8s.io", "v1", "gateways", "Gateway")
NGINX = "nginx.ingress.kubernetes.io/"
REQUESTS = 400
THROTTLE = "--providers.providersthrottleduration=100ms"
"""Between two changes; Traefik waits 2 s by default, and so long a latch may take to be obeyed."""
SETTLED = 1.0
GROUPS: dict[str, Any] = {
    "canary_revision": "new",
    "stable_revision": "old",
    "backends": frozenset(backend.url for group in (OLD, NEW) for backend in group.backends),
}


@pytest.fixture
async def client(cluster: Cluster, namespace: str) -> AsyncIterator[KubeClient]:
    async with client_of(cluster, namespace) as client, variants(client, "shop", "shop-canary"):
        yield client


@pytest.fixture
async def nginx(cluster: Cluster, client: KubeClient, tmp_path: Path) -> AsyncIterator[Router]:
    """Traefik reading NGINX's annotations; two hosts, the first with TLS."""
    classes = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "nginx"}}
    cluster.apply({**classes, "spec": {"controller": "k8s.io/ingress-nginx"}})
    await certificate(client, tmp_path, "shop-tls", HOST)
    main = ingress(
        "shop",
        (HOST, path("shop")),
        (OTHER, path("shop", "/exact", "Exact")),
        annotations={f"{NGINX}ssl-redirect": "false"},
        tls=[{"hosts": [HOST], "secretName": "shop-tls"}],
    )
    await client.create(INGRESSES, main)
    flags = (
        THROTTLE,
        "--providers.kubernetesingressnginx=true",
        f"--providers.kubernetesingressnginx.watchnamespace={client.namespace}",
        "--providers.kubernetesingressnginx.httpentrypoint=web",
        "--providers.kubernetesingressnginx.httpsentrypoint=websecure",
    )
    with traefik(cluster, tmp_path, *flags) as router:
        await router.until(HOST, lambda counts: counts == {"shop": 20})
        yield router


@pytest.fixture
async def gateway(cluster: Cluster, client: KubeClient, tmp_path: Path) -> AsyncIterator[Router]:
    """Traefik as a Gateway; a route for each of two hosts."""
    gateway_crds.install(cluster)
    api = "gateway.networking.k8s.io/v1"
    spec = {"controllerName": "traefik.io/gateway-controller"}
    cluster.apply({"apiVersion": api, "kind": "GatewayClass", "metadata": {"name": "traefik"}, "spec": spec})
    flags = (
        THROTTLE,
        "--providers.kubernetesgateway=true",
        f"--providers.kubernetesgateway.namespaces={client.namespace}",
    )
    with traefik(cluster, tmp_path, *flags) as router:
        listener = {"name": "web", "protocol": "HTTP", "port": router.http}
        entry = {"gatewayClassName": "traefik", "listeners": [listener]}
        await client.create(GATEWAYS, {"metadata": {"name": "gateway"}, "spec": entry})
        for name, host in (("shop", HOST), ("inner", OTHER)):
            route = http_route(name, rule(("shop", None)))
            route["spec"]["hostnames"] = [host]
            await client.create(HTTP_ROUTES, route)
        for host in (HOST, OTHER):
            await router.until(host, lambda counts: counts == {"shop": 20})
        yield router


def of_ingress(client: KubeClient, chosen: Chosen | None = None) -> NginxIngressRouter:
    router = NginxIngressRouter(client, client.namespace, settled=SETTLED)
    router.declare(ROUTE, IngressTraffic(ingress="shop", chosen=chosen or Chosen()))
    return router


def of_gateway(client: KubeClient, chosen: Chosen | None = None) -> GatewayRouter:
    router = GatewayRouter(client, client.namespace, settled=SETTLED)
    refs = (RouteRef(name="shop"), RouteRef(name="inner"))
    router.declare(ROUTE, GatewayTraffic(routes=refs, service="shop", claim=True, chosen=chosen or Chosen()))
    return router


async def release_at(router: KubernetesRouter[Any], weight: int) -> TrafficState:
    state = await router.write(TrafficState(route=ROUTE, stable=OLD))
    return await router.write(state.model_copy(update={"canary": NEW, "weight": weight}))


async def shares(router: KubernetesRouter[Any], users: Router, hosts: dict[str, str]) -> None:
    """5 % are 5 %, 20 % are 20 %, and a latch takes everything back within five seconds, in truth within
    one. Nobody is failed."""
    state = await release_at(router, 5)
    for weight in (5, 20):
        state = await router.write(state.model_copy(update={"weight": weight}))
        await seen(router, TrafficSeen(weight=weight, **GROUPS), within=15)
        for host, where in hosts.items():
            counts = await users.count(REQUESTS, host, where)
            assert set(counts) == {"shop", "shop-canary"}
            assert abs(counts["shop-canary"] / REQUESTS - weight / 100) <= 0.01, counts
    begun = time.monotonic()
    await router.abort(ROUTE, "new")
    for host, where in hosts.items():
        while (counts := await users.count(10, host, where)) != {"shop": 10}:
            assert set(counts) <= {"shop", "shop-canary"}
            await asyncio.sleep(0.01)
    assert time.monotonic() - begun < 5.0
    for host, where in hosts.items():
        assert await users.count(REQUESTS, host, where) == {"shop": REQUESTS}


async def test_ingress_shares_and_latch(client: KubeClient, nginx: Router) -> None:
    await shares(of_ingress(client), nginx, {HOST: "/", OTHER: "/exact"})


async def test_gateway_shares_and_latch(client: KubeClient, gateway: Router) -> None:
    await shares(of_gateway(client), gateway, {HOST: "/", OTHER: "/"})


async def test_ingress_keeps_tls(client: KubeClient, nginx: Router) -> None:
    await release_at(of_ingress(client), 20)
    await nginx.until(HOST, lambda counts: counts["shop-canary"] > 0)
    counts = await nginx.count(100, HOST, tls=True)
    assert counts == {"shop": 80, "shop-canary": 20}


@pytest.mark.parametrize(
    ("how", "said"), [({}, "always"), ({"value": "me"}, "me"), ({"pattern": "^(me|you)$"}, "you")]
)
async def test_ingress_chosen_requests(
    client: KubeClient, nginx: Router, how: dict[str, str], said: str
) -> None:
    """At weight 0: testers see the canary, nobody else does; with the latch they do not either."""
    router = of_ingress(client, Chosen(header="X-Canary", cookie="canary", **how))
    state = await release_at(router, 0)
    header, cookie = {"X-Canary": said}, {"Cookie": "canary=always"}
    await until(nginx, header, "shop-canary")
    assert await nginx.count(20, HOST, headers=cookie) == {"shop-canary": 20}
    assert await nginx.count(20, HOST) == {"shop": 20}
    assert await nginx.count(20, HOST, headers={"X-Canary": "never"}) == {"shop": 20}
    await router.abort(ROUTE, "new")
    await until(nginx, header, "shop")
    await until(nginx, cookie, "shop")
    assert state.weight == 0


async def test_gateway_chosen_requests(client: KubeClient, gateway: Router) -> None:
    router = of_gateway(client, Chosen(header="X-Canary", value="me"))
    await release_at(router, 0)
    await until(gateway, {"X-Canary": "me"}, "shop-canary")
    assert await gateway.count(20, HOST) == {"shop": 20}
    assert await gateway.count(20, HOST, headers={"X-Canary": "other"}) == {"shop": 20}
    await router.abort(ROUTE, "new")
    await until(gateway, {"X-Canary": "me"}, "shop")


async def test_ingress_weights_of_another_total(client: KubeClient, nginx: Router) -> None:
    router = NginxIngressRouter(client, client.namespace, settled=SETTLED)
    router.declare(ROUTE, IngressTraffic(ingress="shop", weight_total=1000))
    await release_at(router, 5)
    annotations = (await client.get(INGRESSES, "shop-canary"))["metadata"]["annotations"]
    assert annotations[f"{NGINX}canary-weight"] == "50"
    await seen(router, TrafficSeen(weight=5, **GROUPS), within=15)
    counts = await nginx.count(REQUESTS, HOST)
    assert abs(counts["shop-canary"] / REQUESTS - 0.05) <= 0.01, counts


async def test_ingress_deletion_of_the_canary_fails_nobody(client: KubeClient, nginx: Router) -> None:
    router = of_ingress(client)
    await release_at(router, 20)
    await nginx.until(HOST, lambda counts: counts["shop-canary"] > 0)
    await client.delete(INGRESSES, "shop-canary")
    await nginx.until(HOST, lambda counts: counts == {"shop": 20})
    await router.write(TrafficState(route=ROUTE, stable=OLD, canary=NEW, weight=20))
    await nginx.until(HOST, lambda counts: counts["shop-canary"] > 0)
    await router.release(ROUTE)
    await nginx.until(HOST, lambda counts: counts == {"shop": 20})


async def test_ingress_goes_to_the_warm_old_pods_at_once(client: KubeClient, nginx: Router) -> None:
    await _bake_abort(of_ingress(client), nginx)


async def test_gateway_goes_to_the_warm_old_pods_at_once(client: KubeClient, gateway: Router) -> None:
    await _bake_abort(of_gateway(client), gateway)


async def _bake_abort(router: KubernetesRouter[Any], users: Router) -> None:
    """The old revision stands behind the canary's Service after a promotion, and is aborted back to."""
    warm = Group(revision="old", backends=(Backend(instance="shop-canary", url="http://shop-canary"),))
    promoted = Group(revision="new", backends=(Backend(instance="shop", url="http://shop"),))
    state = await router.write(TrafficState(route=ROUTE, stable=OLD))
    await router.write(state.model_copy(update={"stable": promoted, "previous": warm}))
    assert await users.count(20, HOST) == {"shop": 20}
    await router.abort(ROUTE, "new")
    await users.until(HOST, lambda counts: counts == {"shop-canary": 20})


async def test_gateway_status_is_what_a_real_one_writes(client: KubeClient, gateway: Router) -> None:
    router = of_gateway(client)
    state = await release_at(router, 5)
    await seen(router, TrafficSeen(weight=5, **GROUPS), within=15)
    counts = await gateway.count(REQUESTS, HOST)
    assert abs(counts["shop-canary"] / REQUESTS - 0.05) <= 0.01, counts
    await router.write(state.model_copy(update={"weight": 60}))
    await seen(router, TrafficSeen(weight=60, **GROUPS), within=15)
    assert await router.untaken(ROUTE) == ()


async def until(users: Router, headers: dict[str, str], wanted: str, within: float = 15.0) -> None:
    """Wait until requests with these headers are answered by `wanted`."""
    begun = time.monotonic()
    while (found := await users.ask(HOST, headers=headers)) != wanted:
        assert time.monotonic() < begun + within, found

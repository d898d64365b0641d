"""The router of HTTPRoutes and GRPCRoutes against a real API server. No Gateway: what objects say.

Who stands in for the Gateway writes the routes' status.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.cluster import gateway_crds
from tests.cluster.kubectl import Cluster, Refused
from tests.cluster.routing import Overtaken, client_of, edit, serving
from tests.unit.kube_objects import http_route, rule

from phoenix_orch.kernel.errors import BadState, Conflict, Invalid, NotFound
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import HTTP_ROUTES, Object
from phoenix_orch.testing.router_contract import CONTRACT, NEW, OLD, ROUTE, Check
from phoenix_orch.traffic.gateway_api import GRPC_ROUTES, GatewayRouter
from phoenix_orch.traffic.kube_record import ABORT, WEIGHT
from phoenix_orch.traffic.kube_router import Notice
from phoenix_orch.traffic.kube_spec import Chosen, GatewayTraffic, RouteRef
from phoenix_orch.traffic.router import TrafficState

pytestmark = pytest.mark.anyio

MARK = {"phoenix-orch.io/route": ROUTE}
FOREIGN = {
    "matches": [{"path": {"type": "PathPrefix", "value": "/docs"}}],
    "filters": [
        {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "X-A", "value": "b"}]}}
    ],
    "backendRefs": [{"name": "docs", "port": 80}],
}


@pytest.fixture(scope="module")
def gateway_api(cluster: Cluster) -> Cluster:
    gateway_crds.install(cluster)
    return cluster


@pytest.fixture
async def client(gateway_api: Cluster, namespace: str) -> AsyncIterator[KubeClient]:
    async with client_of(gateway_api, namespace) as client:
        for name in (ROUTE, "blog"):
            await client.create(HTTP_ROUTES, http_route(name, rule((name, None))))
            await serving(client, name, f"{name}-canary")
        yield client


@pytest.fixture
def notices() -> list[Notice]:
    return []


@pytest.fixture
def router(client: KubeClient, notices: list[Notice]) -> GatewayRouter:
    return routing(client, client.namespace, notices)


def routing(client: Any, namespace: str, notices: list[Notice], *names: str, **spec: Any) -> GatewayRouter:
    """`names`: HTTPRoutes of the route, or `GRPCRoute/NAME`."""
    router = GatewayRouter(client, namespace, tell=notices.append, settled=0.0)
    for name in (ROUTE, "blog"):
        parts = [each.rpartition("/") for each in (names or (name,))]
        refs = tuple(RouteRef(kind=kind or "HTTPRoute", name=last) for kind, _, last in parts)
        router.declare(name, GatewayTraffic(routes=refs, service=name, **{"claim": True, **spec}))
    return router


async def release_at(router: GatewayRouter, weight: int) -> TrafficState:
    state = await router.write(TrafficState(route=ROUTE, stable=OLD))
    return await router.write(state.model_copy(update={"canary": NEW, "weight": weight}))


async def rules_of(client: KubeClient, name: str = ROUTE) -> list[dict[str, Any]]:
    return list((await client.get(HTTP_ROUTES, name))["spec"]["rules"])


async def weights(client: KubeClient, name: str = ROUTE, number: int = 0) -> dict[str, int]:
    return {ref["name"]: ref["weight"] for ref in (await rules_of(client, name))[number]["backendRefs"]}


async def answer(client: KubeClient, found: Object, *conditions: tuple[str, str], behind: int = 0) -> None:
    """As the route's Gateway answers for it: type and status of conditions."""
    generation = found["metadata"]["generation"] - behind
    listed = [
        {
            "type": kind,
            "status": status,
            "reason": "Test",
            "message": "",
            "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind, status in conditions
    ]
    parent = {"parentRef": {"name": "gateway"}, "controllerName": "test.io/gateway", "conditions": listed}
    changes = merge_patch_of(found, {"status": {"parents": [parent]}})
    await client.patch(HTTP_ROUTES, found["metadata"]["name"], changes, subresource="status")


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_contract(check: Check, router: GatewayRouter) -> None:
    await check(router)


async def test_other_rules_filters_and_backends_stay(client: KubeClient, notices: list[Notice]) -> None:
    """Conformance 28. A third backend keeps its share of the rule, a tenth."""
    mine = rule(("shop", 9), ("legacy", 1), filters=FOREIGN["filters"], timeouts={"request": "3s"})
    await client.create(HTTP_ROUTES, http_route("rich", mine, FOREIGN))
    before = await client.get(HTTP_ROUTES, "rich")
    router = routing(client, client.namespace, notices, "rich")
    await release_at(router, 20)
    steered = await client.get(HTTP_ROUTES, "rich")
    assert steered["spec"]["rules"][1] == before["spec"]["rules"][1]
    first, original = steered["spec"]["rules"][0], before["spec"]["rules"][0]
    assert {**first, "backendRefs": []} == {**original, "backendRefs": []}
    assert await weights(client, "rich") == {"shop": 720, "shop-canary": 180, "legacy": 100}
    assert steered["metadata"]["labels"][WEIGHT] == "20"
    await router.abort(ROUTE, "new")
    assert (await client.get(HTTP_ROUTES, "rich"))["spec"] == before["spec"]
    await router.release(ROUTE)
    after = await client.get(HTTP_ROUTES, "rich")
    assert after["spec"] == before["spec"]
    assert not after["metadata"].get("labels")
    assert not after["metadata"].get("annotations")


async def test_several_routes_move_together(client: KubeClient, notices: list[Notice]) -> None:
    await client.create(HTTP_ROUTES, http_route("inner", rule(("shop", None), where="/inner")))
    grpc = {"backendRefs": [{"name": "shop", "port": 80}]}
    await client.create(GRPC_ROUTES, http_route("calls", grpc))
    router = routing(client, client.namespace, notices, ROUTE, "inner", "GRPCRoute/calls")
    state = await release_at(router, 40)
    assert await weights(client) == await weights(client, "inner") == {"shop": 60, "shop-canary": 40}
    calls = (await client.get(GRPC_ROUTES, "calls"))["spec"]["rules"][0]["backendRefs"]
    assert [ref["weight"] for ref in calls] == [60, 40]
    assert not (await router.read(ROUTE)).drifted
    stranger = GatewayRouter(client, client.namespace)
    after = await stranger.abort(ROUTE, "new")
    assert (after.version, after.weight) == (state.version + 1, 0)
    assert await weights(client) == await weights(client, "inner") == {"shop": 1}
    for resource, name in ((HTTP_ROUTES, ROUTE), (HTTP_ROUTES, "inner"), (GRPC_ROUTES, "calls")):
        assert (await client.get(resource, name))["metadata"]["annotations"][ABORT] == "new"


async def test_a_route_that_lags_behind_is_drift_and_an_abort_takes_it_along(
    client: KubeClient, notices: list[Notice]
) -> None:
    """Killed between the writes of two routes: the second still has the old weight."""
    await client.create(HTTP_ROUTES, http_route("inner", rule(("shop", None), where="/inner")))
    router = routing(client, client.namespace, notices, ROUTE, "inner")
    await release_at(router, 40)
    lagging = await client.get(HTTP_ROUTES, ROUTE)
    state = await router.write((await router.read(ROUTE)).model_copy(update={"weight": 0}))
    old = {key: lagging["metadata"][key] for key in ("annotations", "labels")}
    await edit(client, HTTP_ROUTES, ROUTE, {"metadata": old, "spec": lagging["spec"]})
    behind = await router.read(ROUTE)
    assert (behind.drifted, behind.weight, behind.version) == (True, 40, state.version)
    await router.abort(ROUTE, "new")
    assert await weights(client) == {"shop": 1}
    assert not (await router.read(ROUTE)).drifted


async def test_a_conflict_on_every_write(
    gateway_api: Cluster, client: KubeClient, notices: list[Notice]
) -> None:
    await client.create(HTTP_ROUTES, http_route("inner", rule(("shop", None), where="/inner")))
    async with client_of(gateway_api, client.namespace, "somebody") as other:
        overtaken = Overtaken(client, other)
        router = routing(overtaken, client.namespace, notices, ROUTE, "inner")
        await release_at(router, 40)
        after = await router.abort(ROUTE, "new")
        assert (after.weight, after.aborted, after.version) == (0, ("new",), 3)
        assert overtaken.conflicts >= 6
    assert await weights(client) == await weights(client, "inner") == {"shop": 1}


async def test_two_processes_write_at_once(client: KubeClient, notices: list[Notice]) -> None:
    await client.create(HTTP_ROUTES, http_route("inner", rule(("shop", None), where="/inner")))
    one = routing(client, client.namespace, notices, ROUTE, "inner")
    other = routing(client, client.namespace, notices, "inner", ROUTE)
    state = await release_at(one, 5)
    for round_ in range(5):
        wanted = [state.model_copy(update={"weight": weight}) for weight in (20, 40)]
        calls = [one.write(wanted[0]), other.write(wanted[1]), other.abort(ROUTE, "new")]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, (TrafficState, Conflict)) for result in results), results
        assert await weights(client) == await weights(client, "inner") == {"shop": 1}, round_
        state = await one.clear_latch(ROUTE, "new")


@pytest.mark.parametrize("force", [False, True], ids=["asks", "insists"])
async def test_a_git_tool_that_applies_its_manifest(
    gateway_api: Cluster, client: KubeClient, notices: list[Notice], force: bool
) -> None:
    """Its 100/0 undoes us: that is drift, put back and told. Without force server-side apply is refused."""
    manifest = {
        "apiVersion": HTTP_ROUTES.api_version,
        "kind": "HTTPRoute",
        **http_route("git", rule(("shop", 100), ("shop-canary", 0)), labels=MARK),
    }
    words = ("apply", "-n", client.namespace, "--server-side", "--field-manager=argocd", "-f", "-")
    text = json.dumps(manifest)
    gateway_api.kubectl(*words, stdin=text)
    router = routing(client, client.namespace, notices, "git", claim=False)
    state = await release_at(router, 20)
    assert await weights(client, "git") == {"shop": 80, "shop-canary": 20}
    if not force:
        with pytest.raises(Refused, match=r'conflict with "phoenix-orch"'):
            gateway_api.kubectl(*words, stdin=text)
        await router.release(ROUTE)
        gateway_api.kubectl(*words, stdin=text)
        return
    gateway_api.kubectl(*words, "--force-conflicts", stdin=text)
    drifted = await router.read(ROUTE)
    assert (drifted.drifted, drifted.weight) == (True, 0)
    await router.write(state)
    assert await weights(client, "git") == {"shop": 80, "shop-canary": 20}
    assert [notice.reason for notice in notices] == ["Drift"]
    assert "weights 100/0 instead of 80/20 (last changed by argocd at 20" in notices[0].message
    # at rest the route is as in the manifest: there is nothing to fight about
    await router.abort(ROUTE, "new")
    gateway_api.kubectl(*words, "--force-conflicts", stdin=text)
    assert not (await router.read(ROUTE)).drifted


async def test_the_share_counts_when_every_gateway_says_so(client: KubeClient, router: GatewayRouter) -> None:
    good = (("Accepted", "True"), ("ResolvedRefs", "True"))
    await release_at(router, 20)
    assert (await router.observe(ROUTE)).weight is None
    assert await router.untaken(ROUTE) == ("HTTPRoute 'shop': Gateway 'gateway' has not answered",)
    await answer(client, await client.get(HTTP_ROUTES, ROUTE), *good, behind=1)
    assert (await router.observe(ROUTE)).weight is None
    assert "not answered for the newest change" in (await router.untaken(ROUTE))[0]
    await answer(
        client, await client.get(HTTP_ROUTES, ROUTE), ("Accepted", "True"), ("ResolvedRefs", "False")
    )
    assert (await router.observe(ROUTE)).weight is None
    await answer(client, await client.get(HTTP_ROUTES, ROUTE), *good)
    seen = await router.observe(ROUTE)
    assert (seen.weight, seen.canary_revision, seen.stable_revision) == (20, "new", "old")
    assert await router.untaken(ROUTE) == ()
    # a new weight is a new generation, a status of the old one is none
    await router.abort(ROUTE, "new")
    assert (await router.observe(ROUTE)).weight is None


async def test_what_is_not_ours_is_refused(client: KubeClient, notices: list[Notice]) -> None:
    router = routing(client, client.namespace, notices, claim=False)
    before = await client.get(HTTP_ROUTES, ROUTE)
    with pytest.raises(BadState, match="'shop' is not Phoenix's to change"):
        await router.write(TrafficState(route=ROUTE, stable=OLD))
    await edit(client, HTTP_ROUTES, "blog", {"metadata": {"labels": MARK}})
    with pytest.raises(BadState, match="belongs to route 'shop', not 'blog'"):
        await router.write(TrafficState(route="blog", stable=OLD))
    assert (await client.get(HTTP_ROUTES, ROUTE)) == before
    with pytest.raises(NotFound):
        await router.read("blog")


async def test_what_cannot_be_steered_is_refused(client: KubeClient, notices: list[Notice]) -> None:
    twice = rule(("shop", None), ("shop", 3))
    await client.create(HTTP_ROUTES, http_route("twice", twice))
    await client.create(HTTP_ROUTES, http_route("large", rule(("shop", 1_000_000), ("other", 1))))
    await client.create(HTTP_ROUTES, http_route("none", FOREIGN))
    told = {"twice": "names Service 'shop' 2 times", "none": "no rule of HTTPRoute 'none' sends to"}
    for name, why in told.items():
        with pytest.raises(Invalid, match=why):
            await routing(client, client.namespace, notices, name).write(
                TrafficState(route=ROUTE, stable=OLD)
            )
    router = routing(client, client.namespace, notices, "large")
    state = await router.write(TrafficState(route=ROUTE, stable=OLD))
    await router.write(state.model_copy(update={"canary": NEW, "weight": 20}))
    assert await weights(client, "large") == {"shop": 800_000, "shop-canary": 200_000, "other": 1}


async def test_chosen_requests_have_a_rule_of_their_own(client: KubeClient, notices: list[Notice]) -> None:
    chosen = Chosen(header="X-Canary", value="me")
    router = routing(client, client.namespace, notices, chosen=chosen)
    before = await rules_of(client)
    await release_at(router, 5)
    first, second = await rules_of(client)
    assert first["matches"][0]["headers"] == [{"name": "X-Canary", "type": "Exact", "value": "me"}]
    assert [ref["name"] for ref in first["backendRefs"]] == ["shop-canary"]
    assert second["matches"] == before[0]["matches"]
    assert not (await router.read(ROUTE)).drifted
    await router.abort(ROUTE, "new")
    assert await rules_of(client) == before


async def test_a_route_that_is_made_anew_has_its_latch_again(
    client: KubeClient, router: GatewayRouter, notices: list[Notice]
) -> None:
    await release_at(router, 40)
    await router.abort(ROUTE, "new")
    await client.delete(HTTP_ROUTES, ROUTE)
    with pytest.raises(NotFound):
        await router.read(ROUTE)
    with pytest.raises(BadState, match="HTTPRoute 'shop' does not exist"):
        await router.write(TrafficState(route=ROUTE, stable=OLD))
    await client.create(HTTP_ROUTES, http_route(ROUTE, rule((ROUTE, None))))
    assert (await router.write(TrafficState(route=ROUTE, stable=OLD))).aborted == ("new",)

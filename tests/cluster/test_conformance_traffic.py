"""Conformance cases 17 to 23 and 27 to 30: the objects that carry weights, and whose they are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.cluster.conformance import INGRESS, both_routers, only_ingress, only_route, promoted
from tests.cluster.release_world import (
    CANARY,
    CANARY_WEIGHT,
    HOST,
    NAME,
    NGINX,
    WALK,
    World,
    deployment,
    main_ingress,
    main_route,
    service,
)

from phoenix_orch.kube.resources import (
    DEPLOYMENTS,
    HTTP_ROUTES,
    INGRESSES,
    ROLLOUTS,
    SERVICES,
    Object,
    Resource,
)
from phoenix_orch.rollout.status import CommandKind

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]

SLOW: dict[str, Any] = {"phases": [{**WALK[0], "duration": "1h"}]}
"""A release that stays at 20 %."""
GATEWAYS = Resource("gateway.networking.k8s.io", "v1", "gateways", "Gateway")


async def at_20(world: World, way: Object | None = None) -> None:
    await world.set_up(way, **SLOW)
    await world.release("shop:2")
    await world.weight(20)


@both_routers
async def test_17_a_weight_changed_by_hand_is_put_back_and_reported(world: World) -> None:
    await at_20(world)
    if world.router == INGRESS:
        changes: dict[str, Any] = {"metadata": {"annotations": {CANARY_WEIGHT: "90"}}}
    else:
        rules = (await world.carrier())["spec"]["rules"]
        for ref in rules[0]["backendRefs"]:
            ref["weight"] = 90 if ref["name"] == CANARY else 10
        changes = {"spec": {"rules": rules}}
    await world.change(world.plane.resource, world.plane.carrier, changes)

    async def put_back() -> bool:
        return world.plane.weights == [0, 20, 90, 20]

    async def reported() -> bool:
        return "Drift" in await world.told()

    await world.until("it is put back", put_back)
    await world.until("it is reported", reported)


@both_routers
async def test_18_what_carries_the_weight_is_made_again_within_one_interval(world: World) -> None:
    """A canary Ingress by Phoenix. A route is the user's to make again; then it gets its weight."""
    await at_20(world)
    await world.say(CommandKind.PAUSE)
    begun = asyncio.get_running_loop().time()
    await world.client.delete(world.plane.resource, world.plane.carrier, world.namespace)
    await world.weight(0)
    if world.router != INGRESS:
        await world.apply(world.way())
        begun = asyncio.get_running_loop().time()
    await world.weight(20)
    assert asyncio.get_running_loop().time() - begun < 10.0, "the interval of the default spec"
    assert world.plane.weights == [0, 20, 0, 20]


@both_routers
async def test_19_what_is_not_ours_is_refused(world: World) -> None:
    """An Ingress of somebody else in the canary's place; a route that does not say that Phoenix may."""
    if world.router == INGRESS:
        way = main_ingress()
        foreign = main_ingress(CANARY, annotations={f"{NGINX}canary": "true", CANARY_WEIGHT: "3"})
        await world.apply(foreign)
    else:
        way = main_route(marked=False)
    await world.apply(deployment(NAME, "shop:1", replicas=2), service(), way)
    before = await world.carrier()
    await world.apply(world.rollout())
    message = await world.stalled("Refused")
    assert "not Phoenix's to change" in message
    assert _written(await world.carrier()) == _written(before)
    if world.router == INGRESS:
        await world.client.delete(INGRESSES, CANARY, world.namespace)
    else:
        await world.change(HTTP_ROUTES, NAME, {"metadata": {"labels": {"phoenix-orch.io/route": NAME}}})
    await world.state("Idle")


@only_ingress
async def test_20_stale_header_annotations_are_removed(world: World) -> None:
    await at_20(world)
    stale = {
        f"{NGINX}canary-by-header": "x-canary",
        f"{NGINX}canary-by-header-value": "always",
        f"{NGINX}canary-by-cookie": "canary",
        f"{NGINX}canary-weight-total": "1000",
    }
    await world.change(INGRESSES, CANARY, {"metadata": {"annotations": stale}})

    async def gone() -> bool:
        return not stale.keys() & (await world.carrier())["metadata"]["annotations"].keys()

    await world.until("they are gone", gone)
    assert (await world.carrier())["metadata"]["annotations"][CANARY_WEIGHT] == "20"


@both_routers
async def test_21_class_tls_and_annotations_of_others_are_kept(world: World) -> None:
    """On the main object, which is only read or only given weights, and on the canary beside it."""
    own = {f"{NGINX}proxy-body-size": "8m", "example.com/team": "shops"}
    way = world.way()
    way["metadata"]["annotations"] = dict(own)
    if world.router == INGRESS:
        way["spec"]["tls"] = [{"hosts": [HOST], "secretName": "shop-tls"}]
    await at_20(world, way)
    main = await world.get(world.plane.resource, NAME)
    carrier = await world.carrier()
    for found in (main, carrier):
        assert own.items() <= found["metadata"]["annotations"].items()
    if world.router == INGRESS:
        assert main["metadata"]["annotations"] == own
        assert main["metadata"].get("labels", {}) == {}
        for key in ("ingressClassName", "tls"):
            assert carrier["spec"][key] == main["spec"][key] == way["spec"][key]
        await world.change(INGRESSES, CANARY, {"metadata": {"annotations": {"example.com/note": "mine"}}})
    await world.abort()
    await world.state("RolledBack")
    carrier = await world.carrier()
    assert own.items() <= carrier["metadata"]["annotations"].items()
    if world.router == INGRESS:
        assert carrier["metadata"]["annotations"]["example.com/note"] == "mine"


@both_routers
async def test_23_a_main_service_without_endpoints_gets_no_larger_canary(world: World) -> None:
    """Where the main Service is empty, ingress-nginx answers 503 to all, also with the canary at 100."""
    await world.set_up()
    await world.release("shop:2")
    await world.weight(20)
    await world.say(CommandKind.PAUSE)
    await world.serve(NAME, ready=False)
    await world.say(CommandKind.RESUME)
    assert "'shop' has no ready endpoint" in await world.stalled("Refused")
    assert world.plane.weights == [0, 20]
    await world.serve(NAME, ready=True)
    await promoted(world, "shop:2")
    assert (await world.condition("Stalled"))["status"] == "False"


@both_routers
@pytest.mark.parametrize("shared", ["Deployment", "route"])
async def test_27_two_rollouts_on_one_target_are_refused(world: World, shared: str) -> None:
    """The later one is, in its status; the earlier one goes on."""
    await world.set_up()
    parts: dict[str, Any] = {"traffic": {world.router: "another"}}
    reason = "ClaimedByAnother"
    if shared == "route":
        reason, parts = "RouteOfAnother", {"workload": {"name": "another"}}
        await world.apply(deployment("another", "shop:1", replicas=1), service("another"))
    await world.apply(world.rollout("later", **parts))
    message = await world.stalled(reason, "later")
    assert f"the Rollout {NAME}" in message
    assert "delete one of the Rollouts" in message
    await world.release("shop:2")
    await promoted(world, "shop:2")
    later = await world.status("later")
    assert later.get("state", "") in ("", "Initializing")
    await world.client.delete(ROLLOUTS, NAME, world.namespace)

    async def goes_on() -> bool:
        return (await world.status("later")).get("state") == "Idle"

    if shared == "route":
        return  # the other Deployment has a Service that the route does not send to
    way = world.way()
    way["metadata"] = {"name": "another", "labels": {"phoenix-orch.io/route": "another"}}
    await world.apply(way)
    await world.until("the later one goes on", goes_on)


@only_ingress
@pytest.mark.parametrize("tool", ["ArgoRollouts", "Flagger"])
async def test_a_target_of_another_tool_is_refused_in_the_status(world: World, tool: str) -> None:
    """As those tools mark a Deployment. Nothing is written on it."""
    marks = {"rollout.argoproj.io/workload-generation": "1"} if tool == "ArgoRollouts" else {}
    await world.apply(deployment(NAME, "shop:1", replicas=1, annotations=marks), service(), world.way())
    if tool == "Flagger":
        owner = {"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": NAME, "uid": "1"}
        primary = f"{NAME}-primary"
        owned = deployment(primary, "shop:1", replicas=1, ownerReferences=[{**owner, "controller": True}])
        await world.apply(owned)
    await world.apply(world.rollout())
    assert "is released by" in await world.stalled(f"OwnedBy{tool}")
    found = await world.get(DEPLOYMENTS, NAME)
    assert not any("phoenix-orch.io" in key for key in found["metadata"].get("annotations", {}))
    assert "stable" not in await world.status()


@only_route
async def test_28_other_rules_and_filters_of_a_route_stay_as_they_are(world: World) -> None:
    docs = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/docs"}}],
        "filters": [
            {
                "type": "RequestHeaderModifier",
                "requestHeaderModifier": {"set": [{"name": "X-A", "value": "b"}]},
            }
        ],
        "backendRefs": [{"name": "docs", "port": 80}],
    }
    way = main_route(docs)
    await world.apply(way)
    before = (await world.carrier())["spec"]
    await at_20(world, way)
    during = (await world.carrier())["spec"]
    assert {ref["name"] for ref in during["rules"][0]["backendRefs"]} == {NAME, CANARY}
    assert _of_others(during) == _of_others(before)
    await world.say(CommandKind.PROMOTE_FULL)
    await promoted(world, "shop:2")
    after = (await world.carrier())["spec"]
    assert [ref["name"] for ref in after["rules"][0]["backendRefs"]] == [NAME]
    assert _of_others(after) == _of_others(before)


@both_routers
async def test_30_removing_the_tool_restores_the_first_state(world: World) -> None:
    """In the middle of a release; what the user has made stays."""
    await world.apply(deployment(NAME, "shop:1", replicas=2), service(), world.way())
    stable, way = await world.get(DEPLOYMENTS, NAME), await world.get(world.plane.resource, NAME)
    services = {one["metadata"]["name"] for one in (await world.client.list(SERVICES)).items}
    await world.apply(world.rollout(**SLOW))
    await world.state("Idle")
    await world.release("shop:2")
    await world.weight(20)
    await world.client.delete(ROLLOUTS, NAME, world.namespace)
    await world.weight(0)

    async def gone() -> bool:
        found = await world.get(DEPLOYMENTS, NAME)
        return _of_the_user(found) == _of_the_user(stable)

    await world.until("the marks are gone", gone)
    after = await world.get(world.plane.resource, NAME)
    assert _of_the_user(after) == _of_the_user(way)
    assert after["spec"] == way["spec"]
    assert (await world.get(DEPLOYMENTS, NAME))["spec"] == stable["spec"]
    assert {one["metadata"]["name"] for one in (await world.client.list(SERVICES)).items} == services
    if world.router == INGRESS:
        assert await world.find(INGRESSES, CANARY) is None
    assert await world.image(CANARY) == "shop:2"


def _written(found: Object) -> Object:
    """The whole object, without what the API server and the data plane keep in it."""
    kept = ("uid", "name", "namespace", "labels", "annotations", "ownerReferences", "generation")
    metadata = {key: found["metadata"][key] for key in kept if key in found["metadata"]}
    return {**found, "metadata": metadata, "status": None}


def _of_others(spec: dict[str, Any]) -> dict[str, Any]:
    """An HTTPRoute without the backends of its first rule, which are Phoenix's to weigh."""
    first, *others = spec["rules"]
    return {**spec, "rules": [{**first, "backendRefs": []}, *others]}


def _of_the_user(found: Object) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and annotations, without what Kubernetes' own controllers keep there."""
    metadata = found["metadata"]
    kept = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if not key.startswith("deployment.kubernetes.io/")
    }
    return metadata.get("labels") or {}, kept

"""What a Rollout says of its traffic reaches the objects, and leaves those that it names no more."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.kube_fake import NAMESPACE, FakeApi
from tests.unit.kube_objects import ENDPOINT_SLICES, HTTP_ROUTES, INGRESSES, endpoints, http_route, rule, shop

from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.client import Selection
from phoenix_orch.kube.resources import ROLLOUTS, Object, Resource
from phoenix_orch.orchestrator.cluster.declared import Carrier, Rollouts
from phoenix_orch.orchestrator.cluster.forsaken import Forsaken
from phoenix_orch.orchestrator.cluster.leaving import Leaving
from phoenix_orch.orchestrator.cluster.prometheus import Endpoints
from phoenix_orch.orchestrator.cluster.routing import ClusterRouter
from phoenix_orch.orchestrator.cluster.share_witness import WitnessedRouter
from phoenix_orch.traffic.router import Backend, Group, TrafficState

pytestmark = pytest.mark.anyio
MARK = {"phoenix-orch.io/route": "shop"}
OLD = Group(revision="old", backends=(Backend(instance="shop", url="http://shop"),))
NEW = Group(revision="new", backends=(Backend(instance="shop-canary", url="http://shop-canary"),))


class Claims:
    """No Deployment is claimed."""

    def forsaken(self, uids: object) -> dict[str, Any]:
        return {}

    async def declare(self, service: str, spec: object) -> None:
        raise AssertionError

    async def leave(self, service: str) -> None:
        raise AssertionError


class World:
    """A Rollout whose canary gets 20 %, by Ingresses or HTTPRoutes of the same names: shop and api."""

    def __init__(self, **traffic: Any) -> None:
        self.api, self.version = FakeApi(), 0
        for name in ("shop", "shop-canary"):
            self.api.put(ENDPOINT_SLICES, endpoints(name))
        for name in ("shop", "api"):
            main = shop(name)
            main["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = "shop"
            self.api.put(INGRESSES, main)
            self.api.put(HTTP_ROUTES, http_route(name, rule(("shop", None)), labels=dict(MARK)))
        self.cache = Cache(Selection(ROLLOUTS, NAMESPACE))
        self.rollouts = Rollouts.watching(self.cache)
        self.names(**traffic)
        self.starts()

    def starts(self) -> None:
        """An orchestrator that knows nothing of before."""
        self.router = ClusterRouter(self.api, NAMESPACE, self.rollouts, settled=0.0)  # type: ignore[arg-type]
        self.leaving = Leaving(self.router, Claims(), clock=lambda: 0.0)
        self.forsaken = Forsaken(self.router, Claims(), clock=lambda: 0.0)

    def names(self, **traffic: Any) -> None:
        """What the Rollout names from now on."""
        spec = {"workload": {"name": "shop"}, "traffic": {"service": "shop", **traffic}}
        metadata = {"name": "shop", "namespace": NAMESPACE, "uid": "1"}
        self.version += 1
        at = {"creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": str(self.version)}
        self.cache.put({"metadata": metadata | at, "spec": spec})

    async def carries_20(self, route: str) -> None:
        for state in (
            TrafficState(route=route, stable=OLD),
            TrafficState(route=route, stable=OLD, canary=NEW, weight=20, version=1),
        ):
            await self.router.write(state)

    async def look(self) -> None:
        await self.leaving.look(self.rollouts.all(), self.rollouts.uids())

    def see(self, resource: Resource, name: str) -> Object | None:
        return self.api.objects.get((resource.plural, name))

    def share(self, name: str) -> int:
        """What the canary gets of the requests of an HTTPRoute."""
        route = self.api.see(HTTP_ROUTES, name)
        refs = route["spec"]["rules"][0]["backendRefs"]
        weights = {ref["name"]: ref.get("weight", 1) for ref in refs}
        return round(100 * weights.get("shop-canary", 0) / sum(weights.values()))


async def test_an_ingress_is_given_back_when_a_route_of_the_same_name_is_named() -> None:
    world = World(ingress="shop")
    await world.look()
    await world.carries_20("shop")
    assert world.see(INGRESSES, "shop-canary") is not None
    world.names(httpRoute="shop")
    await world.look()
    assert world.see(INGRESSES, "shop-canary") is None
    await world.carries_20("shop")
    await world.look()
    assert world.share("shop") == 20


@pytest.mark.parametrize("kind", ["ingress", "httpRoute"])
async def test_r2_an_abort_needs_no_rollout(kind: str) -> None:
    world = World(**{kind: "shop"})
    await world.carries_20("shop")
    found = world.cache.get("shop", NAMESPACE)
    assert found is not None
    world.cache.removed(found)
    world.starts()
    state = await world.router.abort("shop", "new")
    assert (state.weight, state.aborted) == (0, ("new",))


async def test_a_route_is_given_back_when_an_ingress_of_the_same_name_is_named() -> None:
    world = World(httpRoute="shop")
    first = world.api.see(HTTP_ROUTES, "shop")
    await world.look()
    await world.carries_20("shop")
    assert world.share("shop") == 20
    world.names(ingress="shop")
    await world.look()
    assert world.api.see(HTTP_ROUTES, "shop")["spec"] == first["spec"]
    await world.carries_20("shop")
    assert world.see(INGRESSES, "shop-canary") is not None


async def test_a_route_that_is_named_no_more_is_given_back_and_the_others_go_on() -> None:
    world = World(httpRoute="shop", additional=["api"])
    first = world.api.see(HTTP_ROUTES, "api")
    await world.look()
    await world.carries_20("shop")
    assert (world.share("shop"), world.share("api")) == (20, 20)
    world.names(httpRoute="shop")
    await world.look()
    assert (world.share("shop"), world.share("api")) == (20, 0)
    after = world.api.see(HTTP_ROUTES, "api")
    assert (after["spec"], after["metadata"]["labels"]) == (first["spec"], first["metadata"]["labels"])


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        ({"ingress": "shop"}, {"httpRoute": "shop"}, ("Ingress", "shop", "shop")),
        ({"ingress": "shop"}, {"ingress": "api"}, ("Ingress", "shop", "shop")),
        ({"httpRoute": "shop"}, {"ingress": "shop"}, ("HTTPRoute", "shop", "shop")),
        ({"httpRoute": "shop", "additional": ["api"]}, {"httpRoute": "shop"}, ("HTTPRoute", "shop", "api")),
    ],
)
async def test_who_comes_after_the_change_finds_what_is_left(
    before: dict[str, Any], after: dict[str, Any], left: tuple[str, str, str]
) -> None:
    world = World(**before)
    await world.carries_20("shop")
    world.names(**after)
    world.starts()
    assert await world.router.forsaken() == (Carrier(*left),)  # type: ignore[arg-type]
    await world.forsaken.look(world.rollouts.uids(), {"shop"})
    assert world.see(INGRESSES, "shop-canary") is None
    assert world.share(left[2]) == 0
    assert await world.router.forsaken() == ()


async def test_what_bears_the_mark_of_another_route_is_let_be() -> None:
    world = World(httpRoute="shop", additional=["api"])
    await world.carries_20("shop")
    world.names(httpRoute="shop")
    world.api.edit(HTTP_ROUTES, "api", {"metadata": {"labels": {"phoenix-orch.io/route": "api"}}})
    before = world.api.see(HTTP_ROUTES, "api")
    await world.router.release(Carrier("HTTPRoute", "shop", "api"))
    await world.router.release(Carrier("HTTPRoute", "shop", "gone"))
    assert world.api.see(HTTP_ROUTES, "api") == before


NGINX = "nginx.ingress.kubernetes.io/"


@pytest.mark.parametrize(
    ("chosen", "written"),
    [
        (
            {"header": "X-Canary", "value": "tester", "cookie": "canary"},
            {"by-header": "X-Canary", "by-header-value": "tester", "by-cookie": "canary"},
        ),
        ({"header": "X-Region", "pattern": "^eu-"}, {"by-header": "X-Region", "by-header-pattern": "^eu-"}),
    ],
)
async def test_requests_that_are_chosen_and_the_total_reach_every_ingress(
    chosen: dict[str, str], written: dict[str, str]
) -> None:
    world = World(ingress="shop", additional=["api"], canaryBy=chosen, weightTotal=1000)
    await world.carries_20("shop")
    wanted = {"weight": "200", "weight-total": "1000", **written}
    for name in ("shop-canary", "api-canary"):
        annotations = world.api.see(INGRESSES, name)["metadata"]["annotations"]
        start = f"{NGINX}canary-"
        assert {
            key.removeprefix(start): annotations[key] for key in annotations if key.startswith(start)
        } == wanted
    await world.router.abort("shop", "new")
    for name in ("shop-canary", "api-canary"):
        annotations = world.api.see(INGRESSES, name)["metadata"]["annotations"]
        assert annotations[f"{NGINX}canary-weight"] == "0"
        assert not any("by-header" in key or "by-cookie" in key for key in annotations)


@pytest.mark.parametrize(("chosen", "share"), [({}, None), ({"canaryBy": {"header": "X-Canary"}}, 20)])
async def test_where_requests_are_chosen_past_the_weight_their_number_is_no_share(
    chosen: dict[str, Any], share: int | None
) -> None:
    world = World(ingress="shop", **chosen)
    endpoints = Endpoints({"default": ["http://127.0.0.1:1"]})
    witnessed = WitnessedRouter(world.router, world.rollouts, endpoints)
    try:
        await world.router.write(TrafficState(route="shop", stable=OLD))
        await witnessed.observe("shop")
        state = await world.router.read("shop")
        await world.router.write(state.model_copy(update={"canary": NEW, "weight": 20}))
        assert (await witnessed.observe("shop")).weight == share
    finally:
        await endpoints.aclose()

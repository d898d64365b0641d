"""Several Ingresses of one route, against an API server in memory: they move together, or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from tests.unit.kube_fake import NAMESPACE, FakeApi
from tests.unit.kube_objects import ENDPOINT_SLICES, INGRESSES, endpoints, ingress, path, shop

from phoenix_orch.kernel.errors import BadState, NotFound, PhoenixError, Retryable
from phoenix_orch.testing.router_contract import CONTRACT, DATA_PLANE, NEW, OLD, ROUTE, Check
from phoenix_orch.traffic.kube_record import ABORT, WEIGHT
from phoenix_orch.traffic.kube_router import Notice
from phoenix_orch.traffic.kube_spec import IngressTraffic
from phoenix_orch.traffic.nginx_ingress import NginxIngressRouter
from phoenix_orch.traffic.router import TrafficState

pytestmark = pytest.mark.anyio

CANARY_WEIGHT = "nginx.ingress.kubernetes.io/canary-weight"
FIRST, SECOND = "shop-canary", "mobile-canary"


@pytest.fixture
def api() -> FakeApi:
    api = FakeApi()
    for name in (ROUTE, "blog"):
        api.put(ENDPOINT_SLICES, endpoints(name))
        api.put(ENDPOINT_SLICES, endpoints(f"{name}-canary"))
        api.put(INGRESSES, shop(name))
        api.put(INGRESSES, mobile(name))
    return api


def mobile(name: str) -> dict[str, object]:
    named = "mobile" if name == ROUTE else f"{name}-mobile"
    return ingress(named, (f"m.{name}.example.com", path(name)), (f"m.{name}.example.org", path(name, "/x")))


@pytest.fixture
def notices() -> list[Notice]:
    return []


@pytest.fixture
def router(api: FakeApi, notices: list[Notice]) -> NginxIngressRouter:
    return routing(api, notices, "mobile")


def routing(api: FakeApi, notices: list[Notice], *additional: str) -> NginxIngressRouter:
    router = NginxIngressRouter(api, NAMESPACE, tell=notices.append, clock=lambda: 0.0, settled=0.0)  # type: ignore[arg-type]
    router.declare(ROUTE, IngressTraffic(ingress=ROUTE, additional=additional))
    router.declare("blog", IngressTraffic(ingress="blog", additional=("blog-mobile",)))
    return router


async def release_at(router: NginxIngressRouter, weight: int) -> TrafficState:
    state = await router.write(TrafficState(route=ROUTE, stable=OLD))
    return await router.write(state.model_copy(update={"canary": NEW, "weight": weight}))


def weight(api: FakeApi, name: str) -> int:
    return int(api.see(INGRESSES, name)["metadata"]["annotations"][CANARY_WEIGHT])


def refusing(name: str, error: PhoenixError) -> Callable[[str, str], None]:
    """Every write of one object fails."""

    def before(verb: str, written: str) -> None:
        if written == name:
            raise error

    return before


@pytest.mark.parametrize("check", CONTRACT + DATA_PLANE, ids=lambda check: check.__name__)
async def test_contract(check: Check, router: NginxIngressRouter) -> None:
    await check(router)


async def test_each_main_ingress_has_a_canary_with_its_own_rules(
    api: FakeApi, router: NginxIngressRouter
) -> None:
    mains = [api.see(INGRESSES, name) for name in (ROUTE, "mobile")]
    await release_at(router, 20)
    assert (weight(api, FIRST), weight(api, SECOND)) == (20, 20)
    rules = api.see(INGRESSES, SECOND)["spec"]["rules"]
    assert [one["host"] for one in rules] == ["m.shop.example.com", "m.shop.example.org"]
    assert {part["backend"]["service"]["name"] for one in rules for part in one["http"]["paths"]} == {
        "shop-canary"
    }
    assert [api.see(INGRESSES, name) for name in (ROUTE, "mobile")] == mains
    assert not (await router.read(ROUTE)).drifted


@pytest.mark.parametrize("refused", [FIRST, SECOND])
async def test_an_abort_takes_every_other_when_one_refuses(
    api: FakeApi, router: NginxIngressRouter, refused: str
) -> None:
    """R2: also where the one that cannot be written is the lead."""
    await release_at(router, 40)
    api.before = refusing(refused, Retryable("it is refused"))
    with pytest.raises(Retryable, match="it is refused"):
        await router.abort(ROUTE, "new")
    other = SECOND if refused == FIRST else FIRST
    assert (weight(api, other), weight(api, refused)) == (0, 40)
    assert api.see(INGRESSES, other)["metadata"]["annotations"][ABORT] == "new"
    api.before = refusing("none", Retryable(""))
    assert (await router.read(ROUTE)).aborted == ("new",)  # nothing is raised again meanwhile
    assert (await router.abort(ROUTE, "new")).weight == 0
    assert (weight(api, FIRST), weight(api, SECOND)) == (0, 0)
    assert not (await router.read(ROUTE)).drifted


async def test_a_share_counts_when_every_ingress_has_it(api: FakeApi, router: NginxIngressRouter) -> None:
    """R3: killed, or refused, between the two writes of a raise."""
    state = await release_at(router, 5)
    api.before = refusing(SECOND, Retryable("it is refused"))
    with pytest.raises(Retryable):
        await router.write(state.model_copy(update={"weight": 20}))
    assert (weight(api, FIRST), weight(api, SECOND)) == (20, 5)
    assert (await router.observe(ROUTE)).weight == 5
    lagging = await router.read(ROUTE)
    assert (lagging.drifted, lagging.weight) == (True, 20)
    api.before = refusing("none", Retryable(""))
    await router.write(lagging.model_copy(update={"weight": 20}))
    assert (weight(api, FIRST), weight(api, SECOND)) == (20, 20)
    assert (await router.observe(ROUTE)).weight == 20


async def test_what_is_above_is_seen_until_no_ingress_is(api: FakeApi, router: NginxIngressRouter) -> None:
    state = await release_at(router, 40)
    api.before = refusing(FIRST, Retryable("it is refused"))
    with pytest.raises(Retryable):
        await router.write(state.model_copy(update={"weight": 0}))
    assert (weight(api, FIRST), weight(api, SECOND)) == (40, 0)
    assert (await router.observe(ROUTE)).weight == 40


async def test_nothing_is_raised_where_the_lead_cannot_be(api: FakeApi, router: NginxIngressRouter) -> None:
    state = await release_at(router, 5)
    api.before = refusing(FIRST, Retryable("it is refused"))
    with pytest.raises(Retryable):
        await router.write(state.model_copy(update={"weight": 20}))
    assert (weight(api, FIRST), weight(api, SECOND)) == (5, 5)


async def test_nothing_is_raised_while_one_main_ingress_is_missing(
    api: FakeApi, router: NginxIngressRouter
) -> None:
    state = await release_at(router, 5)
    del api.objects["ingresses", "mobile"]
    with pytest.raises(NotFound, match="Ingress 'mobile' does not exist"):
        await router.write(state.model_copy(update={"weight": 20}))
    assert (weight(api, FIRST), weight(api, SECOND)) == (5, 5)
    await router.abort(ROUTE, "new")
    assert (weight(api, FIRST), weight(api, SECOND)) == (0, 0)


async def test_a_hands_change_of_one_is_named_and_put_back(
    api: FakeApi, router: NginxIngressRouter, notices: list[Notice]
) -> None:
    state = await release_at(router, 5)
    api.edit(INGRESSES, SECOND, {"metadata": {"annotations": {CANARY_WEIGHT: "70"}}})
    drifted = await router.read(ROUTE)
    assert (drifted.drifted, drifted.weight) == (True, 70)
    await router.write(state)
    assert weight(api, SECOND) == 5
    assert "Ingress 'mobile-canary': canary-weight is '70'" in notices[0].message


async def test_one_that_was_deleted_is_made_again(api: FakeApi, router: NginxIngressRouter) -> None:
    await release_at(router, 40)
    del api.objects["ingresses", SECOND]
    state = await router.read(ROUTE)
    assert state.drifted
    assert (await router.observe(ROUTE)).weight == 0
    await router.write(state.model_copy(update={"weight": 40}))
    assert (weight(api, SECOND), (await router.read(ROUTE)).drifted) == (40, False)


async def test_a_changed_label_is_put_back(api: FakeApi, router: NginxIngressRouter) -> None:
    """It is what people see with `kubectl get -L`."""
    state = await release_at(router, 5)
    api.edit(INGRESSES, FIRST, {"metadata": {"labels": {WEIGHT: "50"}}})
    assert (await router.read(ROUTE)).drifted
    await router.write(state)
    assert api.see(INGRESSES, FIRST)["metadata"]["labels"][WEIGHT] == "5"
    assert not (await router.read(ROUTE)).drifted


async def test_another_ingress_joins_and_leaves(
    api: FakeApi, router: NginxIngressRouter, notices: list[Notice]
) -> None:
    state = await release_at(router, 20)
    alone = routing(api, notices)
    assert (await alone.read(ROUTE)).drifted
    state = await alone.write(state)
    assert ("ingresses", SECOND) not in api.objects  # its users are all stable's again
    assert weight(api, FIRST) == 20
    again = routing(api, notices, "mobile")
    assert (await again.read(ROUTE)).drifted
    await again.write(state)
    assert (weight(api, FIRST), weight(api, SECOND)) == (20, 20)
    assert not (await again.read(ROUTE)).drifted


async def test_an_abort_takes_one_that_is_named_no_more_as_well(
    api: FakeApi, router: NginxIngressRouter, notices: list[Notice]
) -> None:
    await release_at(router, 20)
    await routing(api, notices).abort(ROUTE, "new")
    assert weight(api, FIRST) == 0
    with contextlib.suppress(KeyError, NotFound):
        assert weight(api, SECOND) == 0


async def test_a_stranger_aborts_and_releases_by_the_mark(api: FakeApi, router: NginxIngressRouter) -> None:
    """Nobody has declared anything: the Rollout is gone."""
    await release_at(router, 40)
    stranger = NginxIngressRouter(api, NAMESPACE)  # type: ignore[arg-type]
    await stranger.abort(ROUTE, "new")
    assert (weight(api, FIRST), weight(api, SECOND)) == (0, 0)
    await stranger.release(ROUTE)
    assert not {("ingresses", FIRST), ("ingresses", SECOND)} & set(api.objects)


async def test_somebody_elses_ingress_in_one_place_keeps_all_from_being_made(
    api: FakeApi, notices: list[Notice]
) -> None:
    api.put(INGRESSES, ingress("twin", ("shop.example.com", path("shop"))))
    router = routing(api, notices, "twin")
    api.put(INGRESSES, ingress("twin-canary", ("x.example.com", path("x"))))
    with pytest.raises(BadState, match="'twin-canary' is not Phoenix's to change"):
        await router.write(TrafficState(route=ROUTE, stable=OLD))
    with pytest.raises(NotFound):
        await routing(api, notices, "none").write(TrafficState(route=ROUTE, stable=OLD))

"""Both routers of a cluster against an API server in memory: the contract, and what clusters do."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.kube_fake import NAMESPACE, FakeApi
from tests.unit.kube_objects import (
    ENDPOINT_SLICES,
    HTTP_ROUTES,
    INGRESSES,
    endpoints,
    http_route,
    rule,
    shop,
)

from phoenix_orch.kernel.errors import BadState, Conflict, NotFound, Retryable
from phoenix_orch.testing.router_contract import CONTRACT, DATA_PLANE, NEW, OLD, ROUTE, Check, group
from phoenix_orch.traffic.gateway_api import GatewayRouter
from phoenix_orch.traffic.kube_record import ABORT, TRAFFIC, WEIGHT
from phoenix_orch.traffic.kube_record import ROUTE as ROUTE_LABEL
from phoenix_orch.traffic.kube_router import KubernetesRouter, Notice
from phoenix_orch.traffic.kube_spec import Chosen, GatewayTraffic, IngressTraffic, RouteRef
from phoenix_orch.traffic.nginx_ingress import NginxIngressRouter
from phoenix_orch.traffic.router import Backend, Group, TrafficState

pytestmark = pytest.mark.anyio

ROUTES = (ROUTE, "blog")


class Setting:
    """A namespace with the objects of two routes, a router on it, and what the router told."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.api = FakeApi()
        self.now = 0.0
        self.notices: list[Notice] = []
        for name in ROUTES:
            self.api.put(ENDPOINT_SLICES, endpoints(name))
            self.api.put(ENDPOINT_SLICES, endpoints(f"{name}-canary"))
            if kind == "ingress":
                self.api.put(INGRESSES, shop(name))
            else:
                self.api.put(HTTP_ROUTES, http_route(name, rule((name, None))))
        self.router = self.another()

    def another(self, *, declared: bool = True) -> KubernetesRouter[Any]:
        how: dict[str, Any] = {"tell": self.notices.append, "clock": lambda: self.now, "settled": 0.0}
        if self.kind == "ingress":
            ingress = NginxIngressRouter(self.api, NAMESPACE, **how)
            for name in ROUTES if declared else ():
                ingress.declare(name, IngressTraffic(ingress=name))
            return ingress
        gateway = GatewayRouter(self.api, NAMESPACE, **how)
        for name in ROUTES if declared else ():
            gateway.declare(name, GatewayTraffic(routes=(RouteRef(name=name),), service=name, claim=True))
        return gateway

    @property
    def carrier(self) -> tuple[Any, str]:
        return (INGRESSES, f"{ROUTE}-canary") if self.kind == "ingress" else (HTTP_ROUTES, ROUTE)

    def share(self) -> int:
        """What the data plane would give to the canary's Service."""
        found = self.api.see(*self.carrier)
        if self.kind == "ingress":
            return int(found["metadata"]["annotations"]["nginx.ingress.kubernetes.io/canary-weight"])
        weights = {ref["name"]: ref.get("weight", 1) for ref in found["spec"]["rules"][0]["backendRefs"]}
        return round(100 * weights.get("shop-canary", 0) / sum(weights.values()))

    def meddle(self, share: int) -> None:
        """Somebody else's weights."""
        if self.kind == "ingress":
            changes = {"nginx.ingress.kubernetes.io/canary-weight": str(share)}
            self.api.edit(*self.carrier, {"metadata": {"annotations": changes}})
        else:
            rules = [rule(("shop", 100 - share), ("shop-canary", share))]
            self.api.edit(*self.carrier, {"spec": {"rules": rules}})

    async def release_at(self, weight: int) -> TrafficState:
        state = await self.router.write(TrafficState(route=ROUTE, stable=OLD))
        return await self.router.write(state.model_copy(update={"canary": NEW, "weight": weight}))


@pytest.fixture(params=["ingress", "gateway"])
def setting(request: pytest.FixtureRequest) -> Setting:
    return Setting(request.param)


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_contract(check: Check, setting: Setting) -> None:
    await check(setting.router)


@pytest.mark.parametrize("check", DATA_PLANE, ids=lambda check: check.__name__)
async def test_data_plane_by_the_object(check: Check) -> None:
    await check(Setting("ingress").router)


async def test_the_weight_is_on_the_object_and_in_a_column(setting: Setting) -> None:
    await setting.release_at(5)
    assert setting.share() == 5
    assert setting.api.see(*setting.carrier)["metadata"]["labels"][WEIGHT] == "5"


@pytest.mark.parametrize("who", ["itself", "another process"])
async def test_an_abort_is_not_believed_before_it_has_stood(who: str) -> None:
    """Also where the weight before it had not been believed yet: that of rest says nothing then."""
    setting = Setting("ingress")
    setting.router._settled = 5.0
    state = await setting.release_at(0)
    await setting.router.observe(ROUTE)
    setting.now = 10.0
    assert (await setting.router.observe(ROUTE)).weight == 0
    await setting.router.write(state.model_copy(update={"weight": 20}))
    setting.now = 12.0
    assert (await setting.router.observe(ROUTE)).weight == 0
    aborting = setting.router if who == "itself" else setting.another()
    await aborting.abort(ROUTE, "new")
    setting.now = 13.0
    assert (await setting.router.observe(ROUTE)).weight is None
    setting.now = 18.1
    assert (await setting.router.observe(ROUTE)).weight == 0


async def test_latch_and_weight_go_in_one_write(setting: Setting) -> None:
    await setting.release_at(40)
    setting.api.writes.clear()
    await setting.router.abort(ROUTE, "new")
    assert setting.api.writes == [("patch", setting.carrier[1])]
    assert setting.share() == 0
    assert setting.api.see(*setting.carrier)["metadata"]["annotations"][ABORT] == "new"


async def test_every_write_meets_somebody_quicker(setting: Setting) -> None:
    """Another hand changes a label before each of our writes but every third: no conflict about traffic."""
    count = 0

    def label(verb: str, name: str) -> None:
        nonlocal count
        count += 1
        if verb == "patch" and count % 3:
            setting.api.edit(*setting.carrier, {"metadata": {"labels": {"touched": str(count)}}})

    setting.api.before = label
    await setting.release_at(40)
    after = await setting.router.abort(ROUTE, "new")
    assert (after.weight, setting.share(), after.version) == (0, 0, 3)
    assert (await setting.router.clear_latch(ROUTE, "new")).aborted == ()


async def test_an_answer_that_was_lost_is_no_conflict(setting: Setting) -> None:
    """The write took effect, its answer did not arrive, and the repeated one met its own version."""
    state = await setting.release_at(5)
    real = setting.api.patch

    async def deaf(*words: Any) -> Any:
        await real(*words)
        raise Conflict("it has changed")

    setting.api.patch = deaf  # type: ignore[method-assign]
    written = await setting.router.write(state.model_copy(update={"weight": 20}))
    assert (written.weight, written.version) == (20, state.version + 1)


@pytest.mark.parametrize("share", [0, 90])
async def test_a_hands_weight_is_seen_told_and_put_back(setting: Setting, share: int) -> None:
    state = await setting.release_at(40)
    setting.meddle(share)
    drifted = await setting.router.read(ROUTE)
    assert (drifted.drifted, drifted.weight, drifted.version) == (True, share, state.version)
    back = await setting.router.write(drifted.model_copy(update={"weight": 40}))
    assert (back.drifted, setting.share()) == (False, 40)
    assert [notice.reason for notice in setting.notices] == ["Drift"]
    assert not (await setting.router.read(ROUTE)).drifted


async def test_an_abort_puts_a_hands_weight_back_too(setting: Setting) -> None:
    await setting.release_at(40)
    latched = await setting.router.abort(ROUTE, "new")
    setting.meddle(30)
    again = await setting.router.abort(ROUTE, "new")
    assert (setting.share(), again.weight, again.version) == (0, 0, latched.version + 1)


async def test_an_abort_of_another_revision_does_not_make_a_hands_weight_ours(setting: Setting) -> None:
    await setting.release_at(40)
    setting.meddle(90)
    assert (await setting.router.abort(ROUTE, "elsewhere")).weight == 40
    assert setting.share() == 40


async def test_a_contest_is_bounded_and_told(setting: Setting) -> None:
    """A Git tool that undoes us every ten seconds is put back five times, then once a minute."""
    state = await setting.release_at(40)
    puts = 0
    for _ in range(60):
        setting.now += 10
        setting.meddle(0)
        drifted = await setting.router.read(ROUTE)
        with contextlib.suppress(Retryable):
            state = await setting.router.write(drifted.model_copy(update={"weight": 40}))
            puts += 1
    assert puts == 14
    contested = [notice for notice in setting.notices if notice.reason == "DriftContested"]
    assert len(contested) == 1
    assert "every 60 s" in contested[0].message
    # what takes traffic away is never put off
    setting.meddle(90)
    await setting.router.write(state.model_copy(update={"weight": 40}))
    assert setting.share() == 40
    await setting.router.abort(ROUTE, "new")
    assert setting.share() == 0


async def test_an_abort_needs_no_declaration_and_no_other_object(setting: Setting) -> None:
    await setting.release_at(40)
    stranger = setting.another(declared=False)
    if setting.kind == "ingress":
        del setting.api.objects["ingresses", ROUTE]
    after = await stranger.abort(ROUTE, "new")
    assert (after.weight, setting.share()) == (0, 0)
    assert (await stranger.clear_latch(ROUTE, "new")).aborted == ()


@pytest.mark.parametrize(
    "record", [None, "{", '{"format": 2, "state": {"route": "shop", "stable": {"revision": "x"}}}']
)
async def test_an_abort_works_without_the_record(setting: Setting, record: str | None) -> None:
    await setting.release_at(40)
    setting.api.edit(*setting.carrier, {"metadata": {"annotations": {TRAFFIC: record}}})
    after = await setting.router.abort(ROUTE, "new")
    assert (setting.share(), after.aborted, after.weight) == (0, ("new",), 0)
    assert setting.api.see(*setting.carrier)["metadata"]["annotations"][ABORT] == "new"


async def test_a_latch_outlives_the_record(setting: Setting) -> None:
    await setting.release_at(40)
    await setting.router.abort(ROUTE, "new")
    setting.api.edit(*setting.carrier, {"metadata": {"annotations": {TRAFFIC: None}}})
    fresh = setting.another()
    with pytest.raises(NotFound):
        await fresh.read(ROUTE)
    assert (await fresh.write(TrafficState(route=ROUTE, stable=OLD))).aborted == ("new",)


async def test_a_person_latches_with_kubectl(setting: Setting) -> None:
    await setting.release_at(40)
    await setting.router.abort(ROUTE, "older")
    setting.api.edit(*setting.carrier, {"metadata": {"annotations": {ABORT: "new"}}})
    assert (await setting.router.read(ROUTE)).aborted == ("older", "new")


@pytest.mark.parametrize("service", ["shop", "shop-canary"])
async def test_nothing_is_raised_while_a_service_is_empty(setting: Setting, service: str) -> None:
    """Main without endpoints answers 503 whatever the canary's weight is; with the Gateway API so does a
    canary without. With ingress-nginx an empty canary's requests go to stable."""
    state = await setting.router.write(TrafficState(route=ROUTE, stable=OLD))
    setting.api.put(ENDPOINT_SLICES, endpoints(service, ready=False))
    wanted = state.model_copy(update={"canary": NEW, "weight": 5})
    if (setting.kind, service) == ("ingress", "shop-canary"):
        await setting.router.write(wanted)
        return
    with pytest.raises(BadState, match=f"Service '{service}' has no ready endpoint"):
        await setting.router.write(wanted)
    assert setting.share() == 0 if setting.kind == "ingress" else True
    assert await setting.router.read(ROUTE) == state


async def test_after_an_abort_in_the_bake_everything_goes_where_the_old_pods_are(setting: Setting) -> None:
    """Main is promoted, the old revision still stands behind the canary's Service."""
    state = await setting.release_at(100)
    warm = Group(revision="old", backends=(Backend(instance="shop-canary", url="http://shop-canary"),))
    update = {"stable": group("new", 20003), "previous": warm, "canary": None, "weight": 0}
    await setting.router.write(state.model_copy(update=update))
    assert setting.share() == 0
    after = await setting.router.abort(ROUTE, "new")
    assert (after.stable.revision, setting.share()) == ("old", 100)
    with pytest.raises(BadState, match="stable is served by the canary's Service"):
        await setting.router.write(after.model_copy(update={"canary": group("newer", 20009), "weight": 5}))
    # the main Service has the old pods again
    await setting.router.write(after.model_copy(update={"stable": OLD, "previous": None}))
    assert setting.share() == 0


async def test_what_is_deleted_is_made_again_with_its_latches() -> None:
    setting = Setting("ingress")
    await setting.release_at(40)
    await setting.router.abort(ROUTE, "new")
    del setting.api.objects["ingresses", f"{ROUTE}-canary"]
    with pytest.raises(NotFound):
        await setting.router.read(ROUTE)
    again = await setting.router.write(TrafficState(route=ROUTE, stable=OLD, canary=NEW))
    assert (again.aborted, setting.share()) == (("new",), 0)
    assert setting.notices[-1].reason == "Recreated"


async def test_a_main_ingress_with_the_mark_stays_one() -> None:
    """Routes need the mark, and somebody gave it to an Ingress as well."""
    setting = Setting("ingress")
    setting.api.put(INGRESSES, shop(ROUTE, labels={ROUTE_LABEL: ROUTE}))
    before = setting.api.see(INGRESSES, ROUTE)
    await setting.release_at(5)
    assert setting.share() == 5
    await setting.another(declared=False).abort(ROUTE, "new")
    assert setting.share() == 0
    assert setting.api.see(INGRESSES, ROUTE) == before


async def test_release_leaves_no_sign(setting: Setting) -> None:
    before = dict(setting.api.objects)
    await setting.release_at(40)
    await setting.router.release(ROUTE)
    await setting.router.release(ROUTE)
    assert _plain(setting.api.objects) == _plain(before)


def _plain(objects: dict[Any, Any]) -> dict[Any, Any]:
    drop: Callable[[Any], Any] = lambda metadata: {  # noqa: E731
        key: value
        for key, value in metadata.items()
        if value and key not in {"resourceVersion", "uid", "generation"}
    }
    return {key: {**found, "metadata": drop(found["metadata"])} for key, found in objects.items()}


async def test_another_declaration_is_no_drift_of_somebody(setting: Setting) -> None:
    state = await setting.release_at(5)
    if isinstance(setting.router, NginxIngressRouter):
        setting.router.declare(ROUTE, IngressTraffic(ingress=ROUTE, weight_total=1000))
    else:
        routes = (RouteRef(name=ROUTE),)
        chosen = Chosen(header="X-Canary", value="me")
        setting.router.declare(ROUTE, GatewayTraffic(routes=routes, service=ROUTE, claim=True, chosen=chosen))
    outdated = await setting.router.read(ROUTE)
    assert (outdated.drifted, outdated.weight) == (True, 5)
    await setting.router.write(state)
    assert not (await setting.router.read(ROUTE)).drifted
    assert setting.notices == []


async def test_an_object_whose_mark_was_taken_off_is_still_aborted(setting: Setting) -> None:
    await setting.release_at(40)
    setting.api.edit(*setting.carrier, {"metadata": {"labels": {ROUTE_LABEL: None}}})
    await setting.router.abort(ROUTE, "new")
    assert setting.share() == 0
    assert setting.api.see(*setting.carrier)["metadata"]["labels"][ROUTE_LABEL] == ROUTE


async def test_release_takes_the_traffic_also_where_the_record_was_lost(setting: Setting) -> None:
    await setting.release_at(40)
    setting.api.edit(*setting.carrier, {"metadata": {"annotations": {TRAFFIC: None}}})
    await setting.router.release(ROUTE)
    if setting.kind == "ingress":
        assert ("ingresses", setting.carrier[1]) not in setting.api.objects  # Phoenix had made it
        return
    assert setting.share() == 0
    left = setting.api.see(*setting.carrier)["metadata"]
    assert not [key for key in (*left.get("labels", {}), *left["annotations"]) if "phoenix" in key]


@pytest.mark.parametrize("seed", range(20))
async def test_an_abort_gets_through_while_half_of_all_writes_fail(setting: Setting, seed: int) -> None:
    """Retried as the controllers do; a failed write may have taken effect all the same."""
    await setting.release_at(40)
    chance = random.Random(seed)
    real = setting.api.patch

    async def unsure(*words: Any) -> Any:
        fate = chance.random()
        if fate < 0.2:
            raise Conflict("somebody was quicker")
        if fate < 0.4:
            raise Retryable("the API server failed")
        answer = await real(*words)
        if fate < 0.5:
            raise Retryable("no answer came")
        return answer

    setting.api.patch = unsure  # type: ignore[method-assign]
    for _ in range(50):
        with contextlib.suppress(Retryable):
            await setting.router.abort(ROUTE, "new")
            break
    assert setting.share() == 0
    assert (await setting.router.read(ROUTE)).aborted == ("new",)


async def test_of_two_who_make_a_route_one_wins(setting: Setting) -> None:
    """Both found nothing there; the slower one meets what the quicker one made."""
    wanted = [
        TrafficState(route=ROUTE, stable=OLD, canary=group(revision, port), weight=5)
        for revision, port in (("one", 20011), ("other", 20012))
    ]
    calls = [setting.another().write(state) for state in wanted]
    results = await asyncio.gather(*calls, return_exceptions=True)
    won = [result for result in results if isinstance(result, TrafficState)]
    assert len(won) == 1
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "TrafficState"]
    assert await setting.router.read(ROUTE) == won[0]

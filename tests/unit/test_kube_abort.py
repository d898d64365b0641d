"""An abort through the routers of a cluster gets through whatever somebody made of the object (rule R2)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.kube_objects import HTTP_ROUTES, rule
from tests.unit.test_kube_routers import Setting

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.testing.router_contract import NEW, OLD, ROUTE, group
from phoenix_orch.traffic.kube_record import ABORT, TRAFFIC
from phoenix_orch.traffic.router import Backend, Group, TrafficState

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["ingress", "gateway"])
def setting(request: pytest.FixtureRequest) -> Setting:
    return Setting(request.param)


def weights(setting: Setting) -> list[dict[str, int]]:
    rules = setting.api.see(HTTP_ROUTES, ROUTE)["spec"]["rules"]
    return [{ref["name"]: ref.get("weight", 1) for ref in one["backendRefs"]} for one in rules]


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        # the stable Service was renamed by hand: nothing of ours is left but the canary
        ([rule(("shop-v2", 80), ("shop-canary", 20))], [{"shop-v2": 80, "shop-canary": 0}]),
        ([rule(("shop", 40), ("shop", 40), ("shop-canary", 20))], [{"shop": 40, "shop-canary": 0}]),
        ([rule(("shop-v2", 80))], [{"shop-v2": 80}]),
    ],
)
async def test_of_a_route_that_could_not_be_steered(
    rules: list[dict[str, Any]], left: list[dict[str, int]]
) -> None:
    setting = Setting("gateway")
    await setting.release_at(20)
    setting.api.edit(HTTP_ROUTES, ROUTE, {"spec": {"rules": rules}})
    assert (await setting.router.abort(ROUTE, "new")).aborted == ("new",)
    assert weights(setting) == left
    assert setting.api.see(HTTP_ROUTES, ROUTE)["metadata"]["annotations"][ABORT] == "new"


async def test_leaves_what_never_was_ours() -> None:
    """A rule that somebody leads to the canary's Service on purpose, beside ours."""
    setting = Setting("gateway")
    await setting.release_at(20)
    rules = setting.api.see(HTTP_ROUTES, ROUTE)["spec"]["rules"]
    preview = rule(("docs", 1), ("shop-canary", 1), where="/preview")
    setting.api.edit(HTTP_ROUTES, ROUTE, {"spec": {"rules": [*rules, preview]}})
    await setting.router.abort(ROUTE, "new")
    assert weights(setting) == [{"shop": 1}, {"docs": 1, "shop-canary": 1}]


async def test_of_stable_while_a_newer_canary_is_out(setting: Setting) -> None:
    """The old revision is warm behind the canary's Service, where a newer one gets requests meanwhile."""
    state = await setting.release_at(20)
    warm = Group(revision="older", backends=(Backend(instance="shop-canary", url="http://shop-canary"),))
    await setting.router.write(state.model_copy(update={"previous": warm}))
    after = await setting.router.abort(ROUTE, "old")
    assert (after.stable.revision, after.aborted) == ("older", ("old",))
    assert setting.share() == 100


async def test_of_what_a_later_release_of_phoenix_wrote(setting: Setting) -> None:
    await setting.release_at(40)
    found = setting.api.see(*setting.carrier)["metadata"]["annotations"]
    later = json.dumps({**json.loads(found[TRAFFIC]), "format": 2, "news": True})
    setting.api.edit(*setting.carrier, {"metadata": {"annotations": {TRAFFIC: later}}})
    for call in (
        setting.router.read(ROUTE),
        setting.router.write(TrafficState(route=ROUTE, stable=OLD)),
        setting.router.clear_latch(ROUTE, "new"),
    ):
        with pytest.raises(Invalid, match="later release of Phoenix"):
            await call
    await setting.router.abort(ROUTE, "new")
    assert setting.share() == 0
    left = setting.api.see(*setting.carrier)["metadata"]["annotations"]
    assert (left[ABORT], left[TRAFFIC]) == ("new", later)


async def test_the_old_share_is_seen_until_the_new_one_has_stood() -> None:
    setting = Setting("ingress")
    setting.router._settled = 5.0
    state = await setting.release_at(20)
    assert (await setting.router.observe(ROUTE)).weight is None  # never seen before
    setting.now += 5
    assert (await setting.router.observe(ROUTE)).weight == 20
    state = await setting.router.write(state.model_copy(update={"weight": 60}))
    assert (await setting.router.observe(ROUTE)).weight == 20
    await setting.router.write(state.model_copy(update={"weight": 20}))
    setting.now += 4
    assert (await setting.router.observe(ROUTE)).weight is None  # 60 may be on its way there
    setting.now += 1
    assert (await setting.router.observe(ROUTE)).weight == 20
    await setting.router.abort(ROUTE, "new")
    assert (await setting.router.observe(ROUTE)).weight == 20
    setting.now += 5
    assert (await setting.router.observe(ROUTE)).weight == 0
    newer = {"canary": group("newer", 20009), "weight": 0}
    state = await setting.router.write((await setting.router.read(ROUTE)).model_copy(update=newer))
    await setting.router.write(state.model_copy(update={"weight": 20}))
    assert (await setting.router.observe(ROUTE)).weight is None  # of another revision
    assert NEW.revision != "newer"

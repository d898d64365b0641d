"""`phoenix rollout start` and `undo` on Deployments: what is written, and what is refused."""

from __future__ import annotations

from typing import Any, cast

import pytest
from tests.unit import deployment_setting as setting
from tests.unit.kube_fake import NAMESPACE, FakeApi
from tests.unit.kube_objects import INGRESSES, shop

from phoenix_orch.kernel.errors import BadState, Invalid, Latched, NotFound, PhoenixError
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import DEPLOYMENTS, REPLICA_SETS, ROLLOUTS, SERVICES
from phoenix_orch.orchestrator.cluster.reach import Reach
from phoenix_orch.orchestrator.cluster.starting import go_back, start
from phoenix_orch.orchestrator.views import Change
from phoenix_orch.rollout.status import State
from phoenix_orch.traffic.router import Backend, Group, TrafficState
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.revision import revision

pytestmark = pytest.mark.anyio
OLD, NEW = (revision(setting.template(image), {}).id for image in ("shop:1", "shop:2"))


class Shop:
    """A Deployment with a Rollout, which has released `shop:1` over `shop:0`."""

    def __init__(self, **status: Any) -> None:
        self.api = FakeApi()
        self.there = Reach(cast("KubeClient", self.api), None)
        stable = setting.deployment()
        self.api.put(DEPLOYMENTS, stable)
        for number, image in ((1, "shop:0"), (2, "shop:1")):
            self.api.put(REPLICA_SETS, setting.replica_set(stable, number, setting.template(image)))
        self.api.put(SERVICES, setting.service())
        self.api.put(INGRESSES, shop())
        spec = {"workload": {"name": "shop"}, "traffic": {"ingress": "shop"}}
        said = {"state": "Idle", "stable": OLD, "wanted": {"target": OLD, "replicas": 3}, **status}
        metadata = {"name": "shop", "creationTimestamp": setting.stamp()}
        self.rollout = self.api.put(ROLLOUTS, {"metadata": metadata, "spec": spec, "status": said})

    async def start(self, images: dict[str, str] | None = None, *, dry_run: bool = False) -> Change:
        wanted = images or {"": "shop:2"}
        return await start(
            self.there, "shop", wanted, reason="new", dry_run=dry_run, even_if_unattainable=False
        )

    async def undo(self, to: int | None = None) -> Change:
        return await go_back(self.there, "shop", to_revision=to, reason="", dry_run=False)

    def canary(self) -> Any:
        return self.api.see(DEPLOYMENTS, "shop-canary")

    def image(self, name: str = "shop") -> str:
        return str(self.api.see(DEPLOYMENTS, name)["spec"]["template"]["spec"]["containers"][0]["image"])


async def test_a_canary_is_made_from_stable() -> None:
    world = Shop()
    change = await world.start()
    made = world.canary()
    assert (change.revision, change.version) == (NEW, "shop:2")
    assert made["metadata"]["labels"] == {marks.MANAGED_BY: marks.MANAGER, marks.ROLLOUT: "shop"}
    assert made["metadata"]["annotations"][marks.FULL_SIZE] == f"3/{NEW}"
    assert made["metadata"]["annotations"][marks.CHANGE_CAUSE] == "phoenix rollout start shop: new"
    assert (made["spec"]["replicas"], world.image("shop-canary"), world.image()) == (1, "shop:2", "shop:1")
    assert world.api.writes == [("create", "shop-canary")]


async def test_the_canary_of_the_release_before_is_turned_into_this_one() -> None:
    world = Shop()
    await world.start()
    uid = world.canary()["metadata"]["uid"]
    await world.start({"shop": "shop:3"})
    assert (world.canary()["metadata"]["uid"], world.image("shop-canary")) == (uid, "shop:3")


def of_other_labels(world: Shop) -> str:
    """The uid of a canary of Phoenix that selects its pods by labels which stable has changed since."""
    labels = {"app": "old-shop-canary", marks.VARIANT: "canary"}
    changes = {
        "selector": {"matchLabels": {"app": "old-shop-canary"}},
        "template": {"metadata": {"labels": labels}},
    }
    world.api.edit(DEPLOYMENTS, "shop-canary", {"spec": changes})
    world.api.writes.clear()
    return str(world.canary()["metadata"]["uid"])


async def test_a_canary_that_has_to_be_made_anew() -> None:
    world = Shop()
    await world.start()
    uid = of_other_labels(world)
    await world.start({"shop": "shop:3"}, dry_run=True)
    assert world.canary()["metadata"]["uid"] == uid
    await world.start({"shop": "shop:3"})
    assert world.canary()["metadata"]["uid"] != uid
    assert world.image("shop-canary") == "shop:3"


async def test_a_canary_stays_where_no_other_may_be_made() -> None:
    world = Shop()
    await world.start()
    uid = of_other_labels(world)

    def denied(verb: str, name: str) -> None:
        if verb == "create":
            raise BadState(f"may not create {name}")

    world.api.before = denied
    with pytest.raises(BadState, match="may not create shop-canary"):
        await world.start({"shop": "shop:3"})
    assert world.canary()["metadata"]["uid"] == uid


async def test_a_canary_of_ones_own_gets_the_image_and_keeps_the_rest() -> None:
    world = Shop()
    world.api.put(DEPLOYMENTS, setting.canary("shop:1", hostNetwork=True))
    await world.start()
    made = world.canary()
    assert (world.image("shop-canary"), made["spec"]["template"]["spec"]["hostNetwork"]) == ("shop:2", True)
    assert marks.MANAGED_BY not in made["metadata"].get("labels", {})


async def test_a_dry_run_writes_nothing() -> None:
    world = Shop()
    assert (await world.start(dry_run=True)).revision == NEW
    with pytest.raises(NotFound):
        world.canary()


@pytest.mark.parametrize(
    ("images", "error", "said"),
    [
        ({"": "shop:1"}, BadState, "same as what is stable"),
        ({"cart": "shop:2"}, NotFound, "no container 'cart'"),
        ({"": "shop:2", "shop": "shop:3"}, Invalid, "not said which one"),
    ],
)
async def test_what_cannot_be_released(images: dict[str, str], error: type[PhoenixError], said: str) -> None:
    with pytest.raises(error, match=said):
        await Shop().start(images)


async def test_a_deployment_of_another_rollout_is_refused_while_that_one_exists() -> None:
    world = Shop()
    metadata = {"name": "other", "uid": "uid-of-other", "creationTimestamp": setting.stamp()}
    world.api.put(ROLLOUTS, {**world.rollout, "metadata": metadata})
    claim = {marks.CLAIM: "uid-of-other", marks.CLAIMANT: "other"}
    world.api.edit(DEPLOYMENTS, "shop", {"metadata": {"annotations": claim}})
    with pytest.raises(BadState, match="released by the Rollout other"):
        await world.start()
    del world.api.objects["rollouts", "other"]
    assert (await world.start()).revision == NEW


async def test_at_rest_undo_puts_the_template_before_back() -> None:
    world = Shop()
    change = await world.undo()
    assert (world.image(), change.version) == ("shop:0", "shop:0")
    assert "from revision 2, shop:1 to revision 1, shop:0" in change.detail


async def test_undo_of_what_serves_or_is_not_kept_is_refused() -> None:
    with pytest.raises(BadState, match="serves already"):
        await Shop().undo(2)
    with pytest.raises(NotFound, match="has no revision 7"):
        await Shop().undo(7)


@pytest.mark.parametrize("state", [State.ROLLING_BACK, State.CANCELLING, State.ROLLED_BACK])
async def test_undo_does_not_go_back_twice(state: State) -> None:
    world = Shop(state=state.value, canary=NEW)
    with pytest.raises(BadState, match="taken back already"):
        await world.undo()
    assert (await world.undo(1)).version == "shop:0"
    assert world.api.see(DEPLOYMENTS, "shop")["metadata"]["namespace"] == NAMESPACE


async def test_what_is_latched_is_not_started_by_another_command() -> None:
    world = Shop(state="RolledBack", canary=NEW)
    found = await world.there.rollout("shop")
    behind = (Backend(instance="shop", url="http://shop"),)
    await found.router.write(TrafficState(route="shop", stable=Group(revision=OLD, backends=behind)))
    await found.router.abort("shop", NEW)
    with pytest.raises(Latched, match="is latched"):
        await world.start()

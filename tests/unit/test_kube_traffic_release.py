"""Whole releases by the rollout controller through both routers of a cluster, before an API in memory."""

from __future__ import annotations

from itertools import groupby

import pytest
from tests.unit.controller_setting import SHOP, World, revision
from tests.unit.kube_objects import INGRESSES
from tests.unit.test_kube_routers import Setting

from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.rollout.status import State

pytestmark = pytest.mark.anyio
OLD, NEW = revision("1"), revision("2")


class ClusterWorld(World):
    """The controller's setting, with traffic in a cluster."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.cluster = Setting(kind)
        self.router = self.cluster.router  # type: ignore[assignment]
        self.seen: list[int] = []
        self.restarted()

    async def passes(self, count: int = 1) -> None:
        for _ in range(count):
            self.cluster.now += 1
            await super().passes()
            await self.answer()
            if await self.is_there():
                self.seen.append(self.cluster.share())

    async def answer(self) -> None:
        """As the Gateway does."""
        if self.cluster.kind == "gateway":
            route = self.cluster.api.see(*self.cluster.carrier)
            kinds = ("Accepted", "ResolvedRefs")
            at = route["metadata"]["generation"]
            listed = [{"type": kind, "status": "True", "observedGeneration": at} for kind in kinds]
            parents = [{"parentRef": {"name": "gateway"}, "conditions": listed}]
            self.cluster.api.edit(*self.cluster.carrier, {"status": {"parents": parents}})

    async def is_there(self) -> bool:
        resource, name = self.cluster.carrier
        return (resource.plural, name) in self.cluster.api.objects

    def walk(self) -> list[int]:
        return [share for share, _ in groupby(self.seen)]


@pytest.fixture(params=["ingress", "gateway"])
def world(request: pytest.FixtureRequest) -> ClusterWorld:
    return ClusterWorld(request.param)


async def test_a_good_release_walks_to_promotion(world: ClusterWorld) -> None:
    await world.progressing()
    await world.until(State.PROMOTED, advance=True)
    assert world.walk() == [0, 50, 100, 0]
    assert (await world.router.read(SHOP)).stable.revision == NEW
    assert await world.told("Drift") == []
    assert world.cluster.notices == []


async def test_a_bad_release_is_taken_back(world: ClusterWorld) -> None:
    await world.progressing()
    await world.judge(VerdictKind.ROLLBACK)
    await world.passes()
    assert world.cluster.share() == 0
    await world.until(State.ROLLED_BACK)
    assert (await world.router.read(SHOP)).aborted == (NEW,)
    assert world.walk() == [0, 50, 0]


async def test_a_hand_is_told_and_undone_by_the_next_pass(world: ClusterWorld) -> None:
    await world.progressing()
    world.cluster.meddle(90)
    await world.passes()
    assert world.cluster.share() == 50
    assert await world.told("Drift") == [
        "the traffic object was changed by hand: weight 90 % instead of 50 %; it is put back"
    ]
    assert [notice.reason for notice in world.cluster.notices] == ["Drift"]


async def test_a_deleted_canary_ingress_is_back_with_the_next_pass() -> None:
    world = ClusterWorld("ingress")
    await world.progressing()
    del world.cluster.api.objects["ingresses", f"{SHOP}-canary"]
    await world.passes()
    assert world.cluster.share() == 50
    assert (await world.router.read(SHOP)).canary is not None
    await world.until(State.PROMOTED, advance=True)


async def test_a_deleted_canary_ingress_of_a_release_taken_back_has_its_latch_again() -> None:
    world = ClusterWorld("ingress")
    await world.progressing()
    await world.judge(VerdictKind.ROLLBACK)
    await world.until(State.ROLLED_BACK)
    del world.cluster.api.objects["ingresses", f"{SHOP}-canary"]
    world.router = world.cluster.another()  # type: ignore[assignment]
    world.restarted()  # knows nothing of it any more
    await world.passes(3)
    state = await world.router.read(SHOP)
    assert (state.aborted, state.weight, world.cluster.share()) == ((NEW,), 0, 0)


async def test_the_main_ingress_may_change_in_the_middle() -> None:
    world = ClusterWorld("ingress")
    await world.progressing()
    tls = [{"hosts": ["shop.example.com"], "secretName": "shop-tls"}]
    world.cluster.api.edit(INGRESSES, SHOP, {"spec": {"tls": tls}})
    await world.passes()
    assert world.cluster.api.see(INGRESSES, f"{SHOP}-canary")["spec"]["tls"] == tls
    await world.until(State.PROMOTED, advance=True)

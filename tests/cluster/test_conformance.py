"""What every implementation of progressive delivery should do, case by case: docs/reference/conformance.md.

The first half: the walk of a release and its ends. The rest is in `test_conformance_traffic.py` and
`test_conformance_faults.py`.
"""

from __future__ import annotations

import pytest
from tests.cluster.conformance import INGRESS, both_routers, no_canary, promoted, rolled_back
from tests.cluster.release_world import CANARY, NAME, WALK, World, deployment, service

from phoenix_orch.kube.resources import DEPLOYMENTS, HTTP_ROUTES, INGRESSES
from phoenix_orch.rollout.status import CommandKind

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]


@both_routers
async def test_01_the_first_deploy_skips_the_steps(world: World) -> None:
    """The Rollout may be there before the Deployment."""
    await world.apply(service(), world.way(), world.rollout())
    assert "Deployment shop" in await world.stalled("NotFound")
    await world.apply(deployment(NAME, "shop:1", replicas=2))
    await world.state("Idle")
    status = await world.status()
    assert status["release"] == 0
    assert status["stable"]
    assert world.plane.weights == [0]
    assert await world.find(DEPLOYMENTS, CANARY) is None


@both_routers
async def test_02_the_weights_follow_the_declared_walk(world: World) -> None:
    await world.set_up()
    await world.release("shop:2")
    await promoted(world, "shop:2")
    assert world.plane.weights == [0, 20, 60, 100, 0]


@both_routers
async def test_03_the_highest_declared_weight_is_a_cap(world: World) -> None:
    """A staircase that does not come out even ends at its cap, and the promotion follows from there."""
    first, stairs = WALK
    await world.set_up(phases=[first, {**stairs, "maxWeight": 50}])
    await world.release("shop:2")
    await promoted(world, "shop:2")
    assert world.plane.weights == [0, 20, 50, 0]


@both_routers
async def test_04_a_failing_metric_takes_the_canary_back_and_leaves_stable_alone(world: World) -> None:
    await world.set_up()
    world.prometheus.canary.errors = 0.3
    await world.release("shop:2")
    await rolled_back(world)
    assert world.plane.weights == [0, 20, 0]
    assert (await world.status())["cause"]["trigger"] == "verdict"


@both_routers
async def test_05_abort_while_paused(world: World) -> None:
    await world.set_up()
    await world.release("shop:2")
    await world.weight(20)
    await world.say(CommandKind.PAUSE)
    await world.state("Paused")
    assert (await world.abort()).weight == 0
    await rolled_back(world)
    assert world.plane.weights == [0, 20, 0]


@both_routers
async def test_06_abort_while_pods_never_get_ready(world: World) -> None:
    await world.set_up()
    world.kubelet.never_ready.add("shop:2")
    await world.release("shop:2")
    await world.state("Starting")
    await world.abort()
    await rolled_back(world)
    assert world.plane.weights == [0]


@both_routers
async def test_07_abort_while_the_ingress_is_missing(world: World) -> None:
    """The weight of a canary Ingress goes without its main one. A route that comes again, as its manifest
    says or as it was at its worst, gives nothing to what was aborted while it was away."""
    await world.set_up()
    await world.release("shop:2")
    await world.weight(20)
    await world.say(CommandKind.PAUSE)
    if world.router == INGRESS:
        await world.client.delete(INGRESSES, NAME, world.namespace)
        assert (await world.abort()).weight == 0
        await rolled_back(world)
        return
    await world.client.delete(HTTP_ROUTES, NAME, world.namespace)
    await world.weight(0)
    await world.say(CommandKind.ABORT)
    await world.state("RollingBack")
    await world.apply(world.way())
    await rolled_back(world)
    assert world.plane.weights == [0, 20, 0]


@both_routers
async def test_08_a_new_revision_during_a_release_begins_with_weight_0(world: World) -> None:
    await world.set_up()
    await world.release("shop:2")
    await world.weight(20)
    before = (await world.status())["canary"]
    await world.release("shop:3")
    await promoted(world, "shop:3")
    assert world.plane.weights[:4] in ([0, 20, 0, 20], [0, 20, 60, 0])
    assert world.plane.weights[-4:] == [20, 60, 100, 0]
    first = (await world.log.history(NAME))[-1]
    assert (first.revision, first.outcome.value) == (before, "superseded")


@both_routers
async def test_09_back_to_stable_skips_the_steps(world: World) -> None:
    await world.set_up()
    await world.release("shop:2")
    await world.weight(20)
    await world.release("shop:1")
    await world.state("Idle")
    assert world.plane.weights in ([0, 20, 0], [0, 20, 60, 0])
    await no_canary(world)
    assert await world.image() == "shop:1"
    assert await world.latch() == ""


@both_routers
async def test_10_promote_full_skips_what_is_left(world: World) -> None:
    await world.set_up(phases=[{**WALK[0], "duration": "1h"}])
    await world.release("shop:2")
    await world.weight(20)
    await world.say(CommandKind.PROMOTE_FULL)
    await promoted(world, "shop:2")
    assert world.plane.weights == [0, 20, 0]


@both_routers
async def test_11_only_a_retry_brings_an_aborted_revision_back(world: World) -> None:
    await world.set_up()
    await world.release("shop:2")
    await world.weight(20)
    await world.abort()
    await rolled_back(world)
    await world.kubectl("scale", f"deployment/{CANARY}", "--replicas=1")
    await no_canary(world)
    assert world.plane.share() == 0
    await world.kubectl("scale", f"deployment/{CANARY}", "--replicas=1")
    await world.say(CommandKind.RETRY)
    await promoted(world, "shop:2")
    assert world.plane.weights[-4:] == [20, 60, 100, 0]


@both_routers
async def test_12_a_pause_waits_for_a_person_and_a_duration_does_not(world: World) -> None:
    await world.set_up()
    await world.release("shop:2")
    await world.weight(20)
    await world.say(CommandKind.PAUSE)
    await world.questions(30)  # some three times as long as a step lasts
    assert (await world.status())["state"] == "Paused"
    assert world.plane.share() == 20
    await world.say(CommandKind.RESUME)
    await promoted(world, "shop:2")  # the steps after it have durations, and nobody says anything more
    assert world.plane.weights == [0, 20, 60, 100, 0]


@both_routers
async def test_13_an_inconclusive_judgement_pauses(world: World) -> None:
    """Two requests a second are too few to judge by, however long a step is extended."""
    policy = {"onNoDecision": "pause", "onHoldTimeout": "pause", "holdTimeout": "6s", "minRequests": 500}
    await world.set_up(policy=policy)
    world.prometheus.rate = 10.0
    await world.release("shop:2")
    await world.state("Paused")
    assert (await world.status())["verdict"]["category"] == "no-decision"
    assert world.plane.weights == [0, 20]
    world.prometheus.rate = 2000.0
    await world.say(CommandKind.PROMOTE)
    await promoted(world, "shop:2")


def _held(policy: str) -> dict[str, str]:
    """What the tests of missing evidence say of it; a second of silence is long here."""
    return {"noData": policy, "staleVerdict": "2s"}


@both_routers
@pytest.mark.parametrize("policy", ["hold", "rollback"])
async def test_14_a_provider_that_is_down_is_no_failure(world: World, policy: str) -> None:
    """However often it fails, the policy decides: wait for it, or take the release back."""
    await world.set_up(policy=_held(policy))
    await world.release("shop:2")
    await world.weight(20)
    world.prometheus.down = True
    if policy == "rollback":
        await rolled_back(world)
        assert (await world.status())["cause"]["trigger"] == "no-data"
        return
    await world.questions(20)
    status = await world.status()
    assert status["state"] == "Progressing"
    assert (await world.condition("Healthy"))["reason"] == "NoEvidence"
    reached = world.plane.share()
    assert world.plane.weights in ([0, 20], [0, 20, 60])
    world.prometheus.down = False
    await promoted(world, "shop:2")
    assert reached in world.plane.weights


@both_routers
@pytest.mark.parametrize("policy", ["hold", "rollback"])
async def test_15_no_data_is_decided_by_the_policy(world: World, policy: str) -> None:
    """Prometheus answers, and has nothing of the route."""
    await world.set_up(policy=_held(policy))
    await world.release("shop:2")
    await world.weight(20)
    world.prometheus.empty = True
    if policy == "rollback":
        await rolled_back(world)
        assert (await world.status())["cause"]["trigger"] == "no-data"
        return
    await world.questions(20)
    assert (await world.status())["state"] == "Progressing"
    world.prometheus.empty = False
    await promoted(world, "shop:2")


@both_routers
async def test_16_no_measurement_is_never_a_pass(world: World) -> None:
    """R1, and R3: there has not been one at all, and time alone moves nothing."""
    await world.set_up(policy={"onHoldTimeout": "pause", "holdTimeout": "4s"})
    world.prometheus.empty = True
    await world.release("shop:2")
    await world.state("Paused")
    assert world.plane.weights == [0, 20]
    assert (await world.status())["step"] == 0

"""Deployments released through a real API server: the shared contract, kubectl beside it, every write met."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from tests.cluster.deployments import (
    Crash,
    Meddling,
    World,
    a_world,
    another,
    begun,
    images,
    release,
    service,
    shop,
    step,
    until,
)
from tests.cluster.kubectl import Cluster, Refused
from tests.cluster.pods import stamp
from tests.unit.test_deployment_revision import WRITTEN

from phoenix_orch.kernel.errors import BadState, NotFound
from phoenix_orch.testing import workload_contract
from phoenix_orch.testing.workload_contract import SERVICE, Check
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.canary import with_images
from phoenix_orch.workload.deployment.revision import revision, template_hash
from phoenix_orch.workload.deployment.scene import PodTemplate
from phoenix_orch.workload.deployment.target import Holder
from phoenix_orch.workload.kubernetes import DeploymentSpec, KubernetesWorkload
from phoenix_orch.workload.workload import Instance, Running, Workload

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(cluster: Cluster, namespace: str) -> AsyncIterator[World]:
    async with a_world(cluster, namespace) as found:
        yield found


# -- the shared contract ---------------------------------------------------------------------------

APPLIES = (
    workload_contract.unknown_service_is_not_found,
    workload_contract.declared_service_has_no_instances,
    workload_contract.fewer_than_none_is_refused,
    workload_contract.what_is_wanted_is_known_at_once,
    workload_contract.wanting_the_same_again_changes_nothing,
    workload_contract.one_that_was_never_ready_leaves_at_once,
    workload_contract.release_ends_none_that_is_wanted,
    workload_contract.a_crash_is_recorded_and_repaired,
    workload_contract.sick_ones_are_unready_until_they_answer_again,
    workload_contract.restart_replaces_one_by_one_and_never_serves_with_fewer,
)
"""The rest is about processes: their pids, several revisions beside stable, and waiting for `release`,
which a cluster does by endpoints and grace periods."""


@dataclass(frozen=True)
class Versioned(DeploymentSpec):
    image: str = ""

    def template(self) -> PodTemplate:
        template = with_images(shop(self.namespace)["spec"]["template"], {"shop": self.image})
        return PodTemplate(template, revision(template, {}))


class Stage:
    """A stable of no pods, so that all pods are those of the revisions a check asks for."""

    def __init__(self, world: World) -> None:
        self.world = world
        running: Running[DeploymentSpec, PodTemplate] = world.workload
        self.workload = cast("Workload", running)

    def spec(self, version: str, *, ready: bool = True) -> Any:
        image = f"contract:{version}"
        if not ready:
            self.world.kubelet.never_ready.add(image)
        spec = self.world.spec
        return Versioned(spec.namespace, spec.stable, spec.canary, spec.rollout, image=image)

    async def crash(self, instance: Instance) -> None:
        end = {"exitCode": 1, "reason": "Error", "finishedAt": stamp(), "startedAt": stamp()}
        await self.world.kubelet.say(
            instance.name,
            ready=True,
            restartCount=1,
            lastState={"terminated": end},
            state={"running": {"startedAt": stamp()}},
        )

    async def sicken(self, instance: Instance) -> None:
        await self.world.kubelet.say(instance.name, ready=False)

    async def heal(self, instance: Instance) -> None:
        await self.world.kubelet.say(instance.name, ready=True)


@pytest.mark.parametrize("check", APPLIES, ids=lambda check: check.__name__)
async def test_contract(world: World, check: Check) -> None:
    if check is not workload_contract.unknown_service_is_not_found:
        await world.apply(shop(world.namespace, replicas=0))
    await check(cast("workload_contract.Stage", Stage(world)))


# -- a release -------------------------------------------------------------------------------------


RELEASED = {"shop": ("shop:2", 3), "shop-canary": ("shop:2", 0)}


async def test_a_release_and_the_way_back_beside_kubectl(world: World) -> None:
    template, expected = await begun(world)
    before = await world.kubectl("rollout", "history", "deployment/shop")
    assert "1         the first" in before

    size = await world.workload.size(SERVICE, 5)
    await world.workload.scale(SERVICE, template, size.pods)
    assert await world.workload.ensure_service(SERVICE, "shop") == "shop-canary"
    assert images(world) == {"shop": ("shop:1", 3), "shop-canary": ("shop:2", 1)}
    assert "successfully rolled out" in await world.kubectl(
        "rollout", "status", "deployment/shop", "--timeout=30s"
    )
    assert await world.kubectl("rollout", "history", "deployment/shop") == before
    made = world.get("service", "shop-canary")["spec"]
    assert (made["type"], made["selector"]["app"]) == ("ClusterIP", "shop-canary")

    await release(world, world.workload, template, expected)
    assert images(world) == RELEASED
    history = await world.kubectl("rollout", "history", "deployment/shop")
    assert f"2         phoenix rollout shop: shop:2 ({template.revision})" in history
    assert "successfully rolled out" in await world.kubectl(
        "rollout", "status", "deployment/shop", "--timeout=30s"
    )
    kept = await world.workload.history(SERVICE)
    assert [(one.number, one.images, one.stable) for one in kept] == [
        (1, ("shop:1",), False),
        (2, ("shop:2",), True),
    ]
    assert kept[1].revision == template.revision
    assert await world.workload.weight_to_leave(SERVICE) == 0

    known = {template_hash(template.manifest)}
    assert await world.workload.changed_by_others(SERVICE, known) is None
    await world.kubectl("rollout", "undo", "deployment/shop")
    await world.current()
    changed = await world.workload.changed_by_others(SERVICE, known)
    assert changed is not None
    assert changed.undo_to == 1
    assert "successfully rolled out" in await world.kubectl(
        "rollout", "status", "deployment/shop", "--timeout=30s"
    )
    assert images(world)["shop"] == ("shop:1", 3)

    async def counted() -> bool:
        return [one.number for one in await world.workload.history(SERVICE)] == [2, 3]

    await until(counted, why="the undo in the history")
    assert await step(lambda: world.workload.undo(SERVICE, 2))
    assert images(world)["shop"] == ("shop:2", 3)
    assert "phoenix rollout shop: shop:2" in await world.kubectl("rollout", "history", "deployment/shop")


async def test_a_promotion_is_not_complete_before_its_pods_are(world: World) -> None:
    template, expected = await begun(world)
    world.kubelet.never_ready.add("shop:2")
    await world.workload.scale(SERVICE, template, 1)
    promotion = await world.workload.promote(SERVICE, template, expected=expected)
    assert promotion.patch is not None
    assert await world.workload.weight_to_leave(SERVICE) == 100

    async def seen() -> bool:
        found = await world.workload.promote(SERVICE, template, expected=expected)
        assert not found.done
        return found.standing is not None and found.standing.updated == 1

    await until(seen, why="the first new pod")
    state = await world.workload.state(SERVICE)
    assert len([one for one in state.instances if one.state == "ready"]) == 3
    assert await world.workload.weight_to_leave(SERVICE) == 100
    world.kubelet.never_ready.clear()

    async def done() -> bool:
        return (await world.workload.promote(SERVICE, template, expected=expected)).done

    await until(done, why="a complete promotion")
    assert await world.workload.weight_to_leave(SERVICE) == 0


async def test_a_promotion_that_makes_no_progress_is_told_and_the_canary_stays(world: World) -> None:
    template, expected = await begun(world)
    world.kubelet.never_ready.add("shop:2")
    await world.workload.scale(SERVICE, template, 1)
    await world.kubectl("patch", "deployment/shop", "-p", '{"spec": {"progressDeadlineSeconds": 1}}')
    await world.current()
    await step(lambda: world.workload.promote(SERVICE, template, expected=expected))

    async def told() -> bool:
        refusal = (await world.workload.promote(SERVICE, template, expected=expected)).refusal
        return refusal is not None and refusal.reason == "ProgressDeadlineExceeded"

    await until(told, why="the deadline")
    assert images(world)["shop-canary"] == ("shop:2", 1)
    with pytest.raises(Refused, match="exceeded its progress deadline"):
        await world.kubectl("rollout", "status", "deployment/shop", "--timeout=30s")


# -- every write met by somebody else, or the last one of its process ------------------------------


async def test_a_conflict_on_every_write_changes_nothing_but_the_time(world: World) -> None:
    template, expected = await begun(world)
    meddling = Meddling(world.client)
    await release(world, another(world, meddling), template, expected)
    assert images(world) == RELEASED
    assert len(meddling.met) >= 2
    assert world.get("deployment", "shop")["metadata"]["annotations"]["somebody"]


async def test_a_release_killed_at_any_write_ends_the_same(world: World) -> None:
    template, expected = await begun(world)
    killed, ended = 0, False
    while not ended:
        for client in (Meddling(world.client, "before"), Meddling(world.client, "after")):
            try:
                await release(world, another(world, client), template, expected)
            except Crash:
                killed += 1
            else:
                ended = True
        assert killed < 30
    assert killed >= 3
    assert images(world) == RELEASED
    causes = await world.kubectl("rollout", "history", "deployment/shop")
    assert causes.count("phoenix rollout") == 1


# -- a person's canary, configuration, other owners ------------------------------------------------


async def test_the_canary_of_a_person_is_scaled_and_never_changed(world: World) -> None:
    _, expected = await begun(world)
    canary = shop(world.namespace, replicas=1, image="shop:2")
    canary["metadata"]["name"] = "shop-canary"
    canary["spec"]["selector"]["matchLabels"]["app"] = "shop-canary"
    canary["spec"]["template"]["metadata"]["labels"]["app"] = "shop-canary"
    await world.apply(canary)
    template = await world.workload.canary(SERVICE)
    assert template is not None
    assert template.revision == (await world.workload.with_images(SERVICE, {"shop": "shop:2"})).revision
    before = world.get("deployment", "shop-canary")["spec"]["template"]
    await release(world, world.workload, template, expected)
    assert images(world) == RELEASED
    assert world.get("deployment", "shop-canary")["spec"]["template"] == before
    assert world.get("deployment", "shop")["spec"]["template"]["metadata"]["labels"] == {"app": "shop"}

    other = await world.workload.with_images(SERVICE, {"shop": "shop:3"})
    with pytest.raises(BadState, match="not made by Phoenix"):
        await world.workload.scale(SERVICE, other, 1)


async def test_a_promotion_by_a_git_tool_is_waited_for_and_not_written(world: World) -> None:
    template, expected = await begun(world)
    await world.workload.scale(SERVICE, template, 1)

    async def promoted() -> bool:
        found = await world.workload.promote(SERVICE, template, expected=expected, external=True)
        return bool(found.done)

    assert not await promoted()
    assert images(world)["shop"] == ("shop:1", 3)
    await world.apply(shop(world.namespace, image="shop:2"))  # as it lies in Git
    await until(promoted, why="what Git wants")
    assert images(world)["shop"] == ("shop:2", 3)


async def test_pods_that_would_be_taken_for_stables_are_refused(world: World) -> None:
    await world.apply(shop(world.namespace), service(world.namespace))
    canary = shop(world.namespace, image="shop:2")
    canary["metadata"]["name"] = "shop-canary"
    for labels in (
        canary["spec"]["selector"]["matchLabels"],
        canary["spec"]["template"]["metadata"]["labels"],
    ):
        labels["track"] = "canary"
    await world.apply(canary)
    await world.workload.declare(SERVICE, world.spec)
    template = await world.workload.canary(SERVICE)
    assert template is not None
    with pytest.raises(BadState, match="selects the pods of shop-canary too"):
        await world.workload.scale(SERVICE, template, 5)
    found = await world.workload.obstacles(SERVICE)
    assert [one.reason for one in found] == ["StableSelectsCanary", "ServiceSelectsBoth"]
    assert images(world)["shop-canary"] == ("shop:2", 3)
    await world.workload.scale(SERVICE, template, 0)  # what is taken away needs no permission
    assert images(world)["shop-canary"] == ("shop:2", 0)


async def test_what_a_person_does_meanwhile_is_told_and_hinders_no_way_back(world: World) -> None:
    template, _ = await begun(world)
    await world.workload.scale(SERVICE, template, 1)
    await world.kubectl("rollout", "pause", "deployment/shop")
    await world.current()
    assert [one.reason for one in await world.workload.obstacles(SERVICE)] == ["Paused"]
    restarted = KubernetesWorkload(world.client, world.watches)
    await restarted.declare(SERVICE, world.spec)
    await restarted.scale(SERVICE, template, 0)
    assert images(world) == {"shop": ("shop:1", 3), "shop-canary": ("shop:2", 0)}


async def test_another_revision_takes_the_place_of_the_one_on_its_way(world: World) -> None:
    template, _ = await begun(world)
    await world.workload.scale(SERVICE, template, 1)
    other = await world.workload.with_images(SERVICE, {"shop": "shop:3"})
    await world.workload.scale(SERVICE, other, 2)
    assert images(world)["shop-canary"] == ("shop:3", 2)
    await world.workload.scale(SERVICE, template, 0)
    assert images(world)["shop-canary"] == ("shop:3", 2)


async def test_a_service_that_comes_later_makes_a_canary_with_other_labels(world: World) -> None:
    """A selector cannot be changed, so the Deployment is made anew."""
    stable = shop(world.namespace)
    stable["spec"]["template"]["metadata"]["labels"]["tier"] = "web"
    await world.apply(stable)
    await world.workload.declare(SERVICE, world.spec)
    template = await world.workload.with_images(SERVICE, {"shop": "shop:2"})
    await world.workload.scale(SERVICE, template, 1)
    later = service(world.namespace)
    later["metadata"]["name"] = "web"
    later["spec"]["selector"] = {"tier": "web"}
    await world.apply(later)

    async def told() -> list[str]:
        return [one.reason for one in await world.workload.obstacles(SERVICE)]

    assert await until(told, why="the Service") == ["ServiceSelectsBoth"]
    other = await world.workload.with_images(SERVICE, {"shop": "shop:3"})
    await step(lambda: world.workload.scale(SERVICE, other, 1))
    assert await world.workload.obstacles(SERVICE) == ()
    labels = world.get("deployment", "shop-canary")["spec"]["template"]["metadata"]["labels"]
    assert (labels["app"], labels["tier"]) == ("shop-canary", "web-canary")


async def test_a_changed_config_map_is_a_release_that_rolls_the_pods(world: World) -> None:
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": world.namespace},
        "data": {"colour": "blue"},
    }
    stable = shop(world.namespace)
    stable["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    await world.apply(settings)
    cache = world.watches.config_maps

    async def known() -> bool:
        return cache.get("settings", world.namespace) is not None

    await until(known, why="the ConfigMap")
    await world.apply(stable, service(world.namespace))
    await world.workload.declare(SERVICE, world.spec)
    before = await world.workload.stable(SERVICE)
    await world.apply({**settings, "data": {"colour": "red"}})

    async def changed() -> bool:
        return (await world.workload.stable(SERVICE)).revision != before.revision

    await until(changed, why="another revision")
    after = await world.workload.stable(SERVICE)
    assert after.runs.template == before.runs.template
    assert set((await world.workload.state(SERVICE)).wanted) == {before.revision}

    await world.workload.scale(SERVICE, after, 1)

    async def canary_ready() -> bool:
        return len((await world.workload.state(SERVICE)).ready(after.revision)) >= 1

    await until(canary_ready, why="a ready canary")
    await step(lambda: world.workload.promote(SERVICE, after, expected=before.runs.template))

    async def promoted() -> bool:
        return (await world.workload.promote(SERVICE, after, expected=before.runs.template)).done

    await until(promoted, why="a complete promotion")
    assert "2         phoenix rollout" in await world.kubectl("rollout", "history", "deployment/shop")
    template = world.get("deployment", "shop")["spec"]["template"]["metadata"]["annotations"]
    assert template[marks.REVISION] == after.revision


async def test_two_rollouts_never_release_on_one_target(world: World) -> None:
    await world.apply(shop(world.namespace))
    await world.workload.declare(SERVICE, world.spec)
    other = KubernetesWorkload(world.client, world.watches)
    theirs = replace(world.spec, rollout=Holder("other", "uid-of-another"))
    with pytest.raises(BadState, match="released by the Rollout shop"):
        await other.declare(SERVICE, theirs)
    await other.declare(SERVICE, theirs, gone=["uid-of-rollout"])
    assert [one.reason for one in await world.workload.obstacles(SERVICE)] == ["NotClaimed"]


async def test_two_rollouts_at_the_same_moment_do_not_both_get_it(world: World) -> None:
    await world.apply(shop(world.namespace))
    theirs = replace(world.spec, rollout=Holder("other", "uid-of-another"))
    both = [KubernetesWorkload(world.client, world.watches) for _ in range(2)]
    answers = await asyncio.gather(
        both[0].declare(SERVICE, world.spec), both[1].declare(SERVICE, theirs), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in answers) == ["BadState", "NoneType"]


async def test_what_argo_owns_is_refused_and_not_written(world: World) -> None:
    stable = shop(world.namespace)
    stable["metadata"]["annotations"]["rollout.argoproj.io/workload-generation"] = "1"
    await world.apply(stable)
    before = world.get("deployment", "shop")["metadata"]["resourceVersion"]
    with pytest.raises(BadState, match="Argo Rollouts"):
        await world.workload.declare(SERVICE, world.spec)
    assert world.get("deployment", "shop")["metadata"]["resourceVersion"] == before


async def test_leaving_takes_away_what_was_made_and_leaves_stable_serving(world: World) -> None:
    template, _ = await begun(world)
    await world.workload.scale(SERVICE, template, 1)
    await world.workload.ensure_service(SERVICE, "shop")
    await step(lambda: world.workload.leave(SERVICE))
    assert images(world) == {"shop": ("shop:1", 3)}
    assert [one["metadata"]["name"] for one in world.get("services")["items"]] == ["shop"]
    annotations = world.get("deployment", "shop")["metadata"]["annotations"]
    assert not [key for key in annotations if marks.is_ours(key)]
    with pytest.raises(NotFound):
        await world.workload.state(SERVICE)


async def test_an_autoscaler_keeps_the_number_of_stables_pods(world: World) -> None:
    template, expected = await begun(world)
    await world.kubectl("autoscale", "deployment", "shop", "--min=2", "--max=9", "--cpu=50%")
    await world.kubectl("scale", "deployment", "shop", "--replicas=5")
    await world.current()
    await release(world, world.workload, template, expected)
    assert images(world)["shop"] == ("shop:2", 5)


async def test_what_the_api_server_stores_is_the_revision_that_was_written(world: World) -> None:
    stable = shop(world.namespace, replicas=0)
    written = deepcopy(WRITTEN)
    stable["spec"]["template"] = written
    await world.apply(stable)
    stored = world.get("deployment", "shop")["spec"]["template"]
    assert stored != written
    assert template_hash(stored) == template_hash(written)


# -- what the cluster and the version do -----------------------------------------------------------


async def test_a_crash_loop_and_an_image_that_cannot_be_pulled(world: World) -> None:
    template, _ = await begun(world)
    world.kubelet.never_ready.add("shop:2")
    await world.workload.scale(SERVICE, template, 2)

    async def there() -> Any:
        state = await world.workload.state(SERVICE)
        return state.of(template.revision) if len(state.of(template.revision)) == 2 else None

    one, two = await until(there, why="two canary pods")
    end = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": stamp(), "startedAt": stamp()}
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    await world.kubelet.say(
        one.name, ready=False, restartCount=2, lastState={"terminated": end}, state=waiting
    )
    pulling = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    await world.kubelet.say(two.name, ready=False, state=pulling)
    pod = world.get("pod", two.name)
    world.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{two.name}.1", "namespace": world.namespace},
            "involvedObject": {
                "kind": "Pod",
                "namespace": world.namespace,
                "name": two.name,
                "uid": pod["metadata"]["uid"],
                "fieldPath": "spec.containers{shop}",
            },
            "reason": "Failed",
            "type": "Warning",
            "message": 'Failed to pull image "shop:2": not found',
            "count": 3,
            "firstTimestamp": stamp(),
            "lastTimestamp": stamp(),
            "eventTime": None,
        }
    )

    async def judged() -> Any:
        exits = (await world.workload.state(SERVICE)).exits
        return exits if len(exits) == 5 else None

    exits = await until(judged, why="five exits")
    assert sorted(one.reason for one in exits) == ["cannot-start"] * 3 + ["oom"] * 2
    assert {one.revision for one in exits} == {template.revision}


async def test_a_quota_is_the_clusters_and_a_policy_is_the_versions(world: World) -> None:
    template, _ = await begun(world)
    await world.kubectl("create", "quota", "small", "--hard=pods=3")
    await until(lambda: _quota_counts(world), why="a quota that counts")
    await world.workload.scale(SERVICE, template, 1)

    async def told() -> Any:
        return (await world.workload.troubles(SERVICE))[0]

    (trouble,) = await until(told, why="a pod that is not made")
    assert "exceeded quota" in trouble.message
    assert (await world.workload.state(SERVICE)).exits == ()

    await world.kubectl("delete", "quota", "small")
    world.cluster.kubectl(
        "label", "namespace", world.namespace, "pod-security.kubernetes.io/enforce=restricted"
    )
    await step(lambda: world.workload.scale(SERVICE, template, 0))
    await step(lambda: world.workload.scale(SERVICE, template, 2))

    async def refused() -> Any:
        return (await world.workload.troubles(SERVICE))[1]

    (refusal,) = await until(refused, why="a refusal for good")
    assert refusal.reason == "PodsRefused"
    assert "PodSecurity" in refusal.message


async def _quota_counts(world: World) -> bool:
    return bool(world.get("resourcequota", "small").get("status", {}).get("used"))

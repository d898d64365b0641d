"""Deployments released through a real API server: the shared contract, kubectl beside it, every write met."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import pytest
from tests.cluster.kubectl import Cluster, Refused
from tests.cluster.pods import Kubelet, stamp
from tests.unit.test_deployment_revision import WRITTEN

from phoenix_orch.kernel.errors import BadState, Conflict, NotFound
from phoenix_orch.kube.caches import Caches
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.patches import Patch, merge_patch_of
from phoenix_orch.kube.resources import DEPLOYMENTS, Object, Resource
from phoenix_orch.testing import workload_contract
from phoenix_orch.testing.workload_contract import SERVICE, Check
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.canary import with_images
from phoenix_orch.workload.deployment.revision import revision, template_hash
from phoenix_orch.workload.deployment.scene import PodTemplate
from phoenix_orch.workload.deployment.target import Holder
from phoenix_orch.workload.kubernetes import DeploymentSpec, KubernetesWorkload
from phoenix_orch.workload.kubernetes_objects import Watches
from phoenix_orch.workload.workload import Instance, Workload

pytestmark = [
    pytest.mark.anyio,
    # A watch that is cancelled while it connects leaves its socket to the collector.
    pytest.mark.filterwarnings("ignore:.*_SelectorTransport:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*socket.socket:pytest.PytestUnraisableExceptionWarning"),
]

PATIENCE = 30.0


def shop(namespace: str, *, replicas: int = 3, image: str = "shop:1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "shop",
            "namespace": namespace,
            "annotations": {marks.CHANGE_CAUSE: "the first"},
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "shop"}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": {"app": "shop"}},
                "spec": {"containers": [{"name": "shop", "image": image}]},
            },
            **spec,
        },
    }


def service(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "shop", "namespace": namespace},
        "spec": {
            "type": "NodePort",
            "selector": {"app": "shop"},
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    }


@dataclass
class World:
    """A namespace with a workload, a kubelet and kubectl."""

    cluster: Cluster
    namespace: str
    client: KubeClient
    watches: Watches
    kubelet: Kubelet
    workload: KubernetesWorkload

    @property
    def spec(self) -> DeploymentSpec:
        return DeploymentSpec(self.namespace, "shop", "shop-canary", Holder("shop", "uid-of-rollout"))

    async def kubectl(self, *words: str) -> str:
        """Beside the kubelet, for which some of them wait."""
        return await asyncio.to_thread(self.cluster.kubectl, *words, "--namespace", self.namespace)

    def get(self, *words: str) -> Any:
        return self.cluster.get(*words, "--namespace", self.namespace)

    async def apply(self, *objects: dict[str, Any]) -> None:
        """Apply, and wait until the watches show it."""
        await asyncio.to_thread(self.cluster.apply, *objects)
        for one in objects:
            if one["kind"] == "Deployment":
                name = one["metadata"]["name"]
                found = await self.client.get(DEPLOYMENTS, name, self.namespace)
                await self.watches.deployments.shows(found)

    async def current(self) -> None:
        """Wait until the watch of Deployments shows what kubectl did."""
        for found in (await self.client.list(DEPLOYMENTS, self.namespace)).items:
            await self.watches.deployments.shows(found)


async def until(what: Callable[[], Awaitable[Any]], *, why: str = "") -> Any:
    """The first answer that is something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := await what()):
        assert time.monotonic() < deadline, f"did not come: {why}"
        await asyncio.sleep(0.05)
    return found


@contextlib.asynccontextmanager
async def a_world(cluster: Cluster, namespace: str, user: Path | None = None) -> AsyncIterator[World]:
    """`user`: the kubeconfig that the workload uses; the kubelet is the administrator."""
    admin = load(cluster.kubeconfig, namespace=namespace)
    target = load(user or cluster.kubeconfig, namespace=namespace)
    async with KubeClient(admin) as node, KubeClient(target) as client, Caches(client) as caches:
        watches = Watches.of(caches, namespace)
        await watches.synced()
        async with Kubelet(node, namespace).running() as kubelet:
            workload = KubernetesWorkload(client, watches)
            yield World(cluster, namespace, client, watches, kubelet, workload)


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
        self.workload = cast("Workload", world.workload)

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


async def step(what: Callable[[], Awaitable[Any]]) -> Any:
    """One step of a caller that looks again after a conflict."""
    for _ in range(20):
        try:
            return await what()
        except Conflict:
            await asyncio.sleep(0.05)
    raise AssertionError("conflicts without end")


async def release(world: World, workload: KubernetesWorkload, template: PodTemplate, expected: str) -> None:
    """A whole release as a controller does it, from wherever it was left."""
    await step(lambda: workload.declare(SERVICE, world.spec))
    if (await workload.stable(SERVICE)).revision != template.revision:
        size = await workload.size(SERVICE, 40)
        await step(lambda: workload.scale(SERVICE, template, size.pods))
        await step(lambda: workload.ensure_service(SERVICE, "shop"))

        async def all_ready() -> bool:
            return len((await workload.state(SERVICE)).ready(template.revision)) >= size.pods

        await until(all_ready, why="a ready canary")

    async def promoted() -> bool:
        promotion = await step(lambda: workload.promote(SERVICE, template, expected=expected))
        assert promotion.refusal is None
        return bool(promotion.done)

    await until(promoted, why="a complete promotion")
    await step(lambda: workload.scale(SERVICE, template, 0))


async def begun(world: World) -> tuple[PodTemplate, str]:
    """Stable serves; the template of the next version, and the hash of the present one."""
    await world.apply(shop(world.namespace), service(world.namespace))
    await world.workload.declare(SERVICE, world.spec)

    async def serves() -> bool:
        state = await world.workload.state(SERVICE)
        return len(state.ready((await world.workload.stable(SERVICE)).revision)) == 3

    await until(serves, why="a ready stable")
    template = await world.workload.with_images(SERVICE, {"shop": "shop:2"})
    return template, template_hash((await world.workload.stable(SERVICE)).manifest)


def images(world: World) -> dict[str, tuple[str, int]]:
    """What each Deployment wants."""
    return {
        one["metadata"]["name"]: (
            one["spec"]["template"]["spec"]["containers"][0]["image"],
            one["spec"]["replicas"],
        )
        for one in world.get("deployments")["items"]
    }


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


class Crash(Exception):
    """The process ends here."""


class Meddling:
    """A client whose every write is met: by a write of somebody else before it, or by the end of the
    process before or after it."""

    def __init__(self, client: KubeClient, crash: Literal["before", "after"] | None = None) -> None:
        self._client = client
        self._crash = crash
        self.met: set[str] = set()

    async def list(self, *words: Any, **options: Any) -> Any:
        return await self._client.list(*words, **options)

    async def get(self, *words: Any) -> Object:
        return await self._client.get(*words)

    async def create(self, resource: Resource, body: Object, namespace: str | None = None) -> Object:
        return cast("Object", await self._write(self._client.create(resource, body, namespace)))

    async def delete(self, resource: Resource, name: str, namespace: str, **options: Any) -> None:
        await self._write(self._client.delete(resource, name, namespace, **options))

    async def patch(self, resource: Resource, name: str, patch: Patch, namespace: str) -> Object:
        what = f"{name} {sorted(patch.body)} {patch.body.get('spec')}"
        if self._crash is None and what not in self.met:
            self.met.add(what)
            found = await self._client.get(resource, name, namespace)
            note = {"metadata": {"annotations": {"somebody": str(len(self.met))}}}
            await self._client.patch(resource, name, merge_patch_of(found, note), namespace)
        return cast("Object", await self._write(self._client.patch(resource, name, patch, namespace)))

    async def _write(self, call: Coroutine[Any, Any, Any]) -> Any:
        if self._crash == "before":
            call.close()
            raise Crash
        done = await call
        if self._crash == "after":
            raise Crash
        return done


def another(world: World, client: Meddling) -> KubernetesWorkload:
    """The workload of another process."""
    return KubernetesWorkload(cast("KubeClient", client), world.watches)


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

"""The operations port over the objects of a cluster: read from watches, changed at the API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, cast

import pytest
from tests.integration.no_tasks import NoTasks
from tests.unit import deployment_setting as setting
from tests.unit.kube_fake import NAMESPACE, FakeApi
from tests.unit.kube_objects import ENDPOINT_SLICES, INGRESSES, endpoints, shop

from phoenix_orch.kernel.clock import RealClock
from phoenix_orch.kernel.errors import BadState, Invalid, NotFound, PhoenixError, Unavailable
from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.caches import Caches
from phoenix_orch.kube.client import KubeClient, Selection
from phoenix_orch.kube.resources import DEPLOYMENTS, REPLICA_SETS, ROLLOUTS, SERVICES, Resource, key_of
from phoenix_orch.orchestrator.cluster.declared import Rollouts
from phoenix_orch.orchestrator.cluster.operations import ClusterOperations, images_of
from phoenix_orch.orchestrator.cluster.routing import ClusterRouter
from phoenix_orch.orchestrator.cluster.store import WatchedStore
from phoenix_orch.orchestrator.cluster.watched import WatchedSight
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.kept_answers import MemoryAnswers
from phoenix_orch.rollout.status import CommandKind, Event
from phoenix_orch.rollout.store.memory import MemoryStore
from phoenix_orch.traffic.cached_reads import CachedReads
from phoenix_orch.traffic.router import Backend, Group, TrafficState
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.revision import revision
from phoenix_orch.workload.kubernetes_objects import Watches

pytestmark = pytest.mark.anyio
OLD, NEW = (revision(setting.template(image), {}).id for image in ("shop:1", "shop:2"))
RELEASING = {
    "state": "Progressing",
    "release": 2,
    "canary": NEW,
    "weightSeen": 5,
    "releaseStarted": setting.stamp(),
}


class Seen:
    """Caches of a FakeApi that are brought up to date by hand."""

    def __init__(self, api: FakeApi) -> None:
        self._api = api
        self._caches: dict[Resource, Cache] = {}

    def of(self, resource: Resource, *_: Any, **__: Any) -> Cache:
        return self._caches.setdefault(resource, Cache(Selection(resource, NAMESPACE)))

    def look(self) -> None:
        for resource, cache in self._caches.items():
            found = [one for (plural, _), one in self._api.objects.items() if plural == resource.plural]
            version = max((one["metadata"]["resourceVersion"] for one in found), key=int, default="1")
            cache.replaced({key_of(one): one for one in found}, version, monotonic())


class World:
    """A shop with a Rollout, as one replica knows it."""

    def __init__(self, *, listed: bool = True, **status: Any) -> None:
        self.api, self.log = FakeApi(), MemoryStore()
        stable = self.api.put(DEPLOYMENTS, setting.deployment())
        for number, image in ((1, "shop:0"), (2, "shop:1")):
            self.api.put(REPLICA_SETS, setting.replica_set(stable, number, setting.template(image)))
        self.api.put(SERVICES, setting.service())
        self.api.put(SERVICES, setting.service("shop-canary"))
        for service in ("shop", "shop-canary"):
            self.api.put(ENDPOINT_SLICES, endpoints(service))
        self.api.put(INGRESSES, shop())
        spec = {"workload": {"name": "shop"}, "traffic": {"ingress": "shop"}}
        said = {"state": "Idle", "stable": OLD, "wanted": {"target": OLD, "replicas": 3}, **status}
        metadata = {"name": "shop", "creationTimestamp": setting.stamp()}
        self.api.put(ROLLOUTS, {"metadata": metadata, "spec": spec, "status": said})
        self.seen, client = Seen(self.api), cast("KubeClient", self.api)
        caches = cast("Caches", self.seen)
        cache = caches.of(ROLLOUTS)
        rollouts, watches = Rollouts.watching(cache), Watches.of(caches)
        caches.of(INGRESSES)
        store = WatchedStore(client, self.log, cache, rollouts, namespace=NAMESPACE, clock=RealClock())
        self.router = ClusterRouter(client, NAMESPACE, rollouts, cached=CachedReads(caches, client))
        sight = WatchedSight(cache, rollouts, watches, self.router, store, self.log)
        self.operations = ClusterOperations(
            client, sight, self.log, info=info, changes=store.watch, tasks=NoTasks(), answers=MemoryAnswers()
        )
        if listed:
            self.seen.look()

    def commands(self) -> list[tuple[str, str, str]]:
        found = self.api.see(ROLLOUTS, "shop")["status"].get("commands", [])
        return [(one["kind"], one["actor"], one["reason"]) for one in found]

    async def steer(self, weight: int) -> None:
        """As the orchestrator does it in a release."""
        behind = (Backend(instance="shop", url="http://shop"),)
        canary = Group(revision=NEW, backends=(Backend(instance="canary", url="http://shop-canary"),))
        wanted = TrafficState(
            route="shop", stable=Group(revision=OLD, backends=behind), canary=canary, weight=weight
        )
        await self.router.write(wanted)
        self.seen.look()


async def info() -> dict[str, Any]:
    return {"components": []}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the API server."""
    found: list[str] = []
    for verb in ("get", "list"):
        real = getattr(FakeApi, verb)

        async def told(api: FakeApi, resource: Resource, *rest: Any, real: Any = real, **more: Any) -> Any:
            found.append(f"{resource}")
            return await real(api, resource, *rest, **more)

        monkeypatch.setattr(FakeApi, verb, told)
    return found


async def test_reading_asks_the_api_server_nothing(asked: list[str]) -> None:
    world = World(**RELEASING)
    there = world.operations
    (listed,) = await there.views()
    assert (listed.rollout.name, listed.seen and listed.seen.weight) == ("shop", 5)
    view = await there.view("shop")
    assert view.workload is not None
    assert view.versions[OLD] == "shop:1"
    assert [one.version for one in await there.revisions("shop")] == ["shop:0", "shop:1"]
    (service,) = await there.services()
    assert (service.name, service.version, service.replicas) == ("shop", "shop:1", 3)
    assert (await there.service("shop")).revision == service.revision == OLD
    assert await there.history("shop", 10) == []
    assert await there.observations("shop", None, 10) == []
    assert asked == []


async def test_what_changed_is_shown_at_the_next_look() -> None:
    world = World()
    before = (await world.operations.views())[0].rollout.status.state
    world.api.edit(ROLLOUTS, "shop", {"status": RELEASING})
    world.seen.look()
    after = (await world.operations.views())[0].rollout.status.state
    assert (before.value, after.value) == ("Idle", "Progressing")
    del world.api.objects["rollouts", "shop"]
    world.seen.look()
    assert await world.operations.views() == []
    with pytest.raises(NotFound, match="no Rollout 'shop'"):
        await world.operations.view("shop")


async def test_before_the_first_list_nothing_is_said_to_be_missing() -> None:
    world = World(listed=False, **RELEASING)
    for question in (world.operations.views(), world.operations.view("shop"), world.operations.services()):
        with pytest.raises(Unavailable, match="not listed yet"):
            await question


async def test_a_word_has_the_name_of_who_said_it() -> None:
    world = World(**RELEASING)
    given = await world.operations.command("shop", CommandKind.PAUSE, actor="ann", reason="lunch")
    assert (given.kind, given.actor) == (CommandKind.PAUSE, "ann")
    assert world.commands() == [("pause", "ann", "lunch")]
    with pytest.raises(BadState, match="cannot resume"):
        await World().operations.command("shop", CommandKind.RESUME, actor="ann", reason="")


@pytest.mark.parametrize("listed", [True, False])
async def test_an_abort_takes_the_traffic_away_when_it_returns_also_before_the_first_list(
    listed: bool,
) -> None:
    world = World(**RELEASING)
    await world.steer(5)
    blind = World(listed=False)
    blind.api.objects, blind.api._version = world.api.objects, world.api._version
    there = world if listed else blind
    command = await there.operations.command("shop", CommandKind.ABORT, actor="ann", reason="errors")
    there.seen.look()
    state = await there.router.read("shop")
    assert (state.weight, state.aborted) == (0, (NEW,))
    assert command.kind is CommandKind.ABORT
    assert there.commands() == [("abort", "ann", "errors")]


async def test_a_release_begins_with_another_image_and_says_for_whom() -> None:
    world = World()
    change = await start(world, version="shop:2", dry_run=True)
    assert change.revision == NEW
    with pytest.raises(NotFound):
        world.api.see(DEPLOYMENTS, "shop-canary")
    await start(world, version="shop=shop:2")
    made = world.api.see(DEPLOYMENTS, "shop-canary")
    cause = made["metadata"]["annotations"][marks.CHANGE_CAUSE]
    assert cause == "phoenix rollout start shop: new (by ann)"


async def start(world: World, *, dry_run: bool = False, **what: Any) -> Any:
    given = {"version": None, "env": None, "command": None, **what}
    return await world.operations.start("shop", change_cause="new", actor="ann", dry_run=dry_run, **given)


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        ({"env": {"A": "b"}}, BadState, "env and command are in the pod template"),
        ({"command": ("x",)}, BadState, "env and command are in the pod template"),
        ({}, Invalid, "names no images"),
        ({"version": "shop:2,shop:3"}, Invalid, "names no images"),
        ({"version": "cart=shop:2"}, NotFound, "no container 'cart'"),
    ],
)
async def test_what_no_release_begins_with(
    what: dict[str, Any], error: type[PhoenixError], said: str
) -> None:
    with pytest.raises(error, match=said):
        await start(World(), **what)


def test_images_by_container() -> None:
    assert images_of("r.example/shop@sha256:00") == {"": "r.example/shop@sha256:00"}
    assert images_of("web=a:1, side=b:2") == {"web": "a:1", "side": "b:2"}


async def test_undo_at_rest_goes_back_one() -> None:
    world = World()
    change = await world.operations.undo("shop", to_revision=None, actor="ann", reason="", dry_run=False)
    assert change.version == "shop:0"


async def test_a_restart_is_a_rolled_one_and_not_in_a_release() -> None:
    world = World()
    await world.operations.restart("shop", actor="ann", dry_run=True)
    assert not annotations(world)
    await world.operations.restart("shop", actor="ann")
    assert list(annotations(world)) == [marks.RESTARTED_AT]
    with pytest.raises(BadState, match="is being released"):
        await World(**RELEASING).operations.restart("shop", actor="ann")
    with pytest.raises(NotFound, match="those released: shop"):
        await world.operations.restart("cart", actor="ann")


def annotations(world: World) -> dict[str, str]:
    found = world.api.see(DEPLOYMENTS, "shop")["spec"]["template"]["metadata"]
    return dict(found.get("annotations", {}))


async def test_what_has_no_meaning_in_a_cluster_says_what_has() -> None:
    there = World().operations
    with pytest.raises(BadState) as refused:
        await there.apply(PhoenixFile(services={}), actor="ann", dry_run=False)
    assert refused.value.remedy.startswith("kubectl apply")
    with pytest.raises(BadState) as refused:
        await there.logs("shop", instance=None, lines=10, after={})
    assert "kubectl logs" in refused.value.remedy
    assert "deployment/shop" in refused.value.remedy


async def test_changes_are_told_as_they_come() -> None:
    world = World()
    changes = world.operations.changes(timeout=timedelta(seconds=30))
    told: list[str] = []
    async with asyncio.timeout(10):
        async for name in cast("AsyncIterator[str]", changes):
            told.append(name)
            if len(told) == 2:  # there it is; now it changes
                world.api.edit(ROLLOUTS, "shop", {"status": RELEASING})
                world.seen.look()
            if len(told) == 3:
                break
    assert told == ["", "shop", "shop"]
    await changes.aclose()


async def test_events_of_the_log_are_shown_of_this_object_alone() -> None:
    world = World()
    event = Event(at=datetime.now(UTC), reason="Start", message="it began", revision=OLD)
    assert await world.operations.events("shop", 10) == []
    await world.log.put(
        (await world.operations.view("shop")).rollout.model_copy(
            update={"version": 0, "service": world.api.see(ROLLOUTS, "shop")["metadata"]["uid"]}
        )
    )
    await world.log.append_events("shop", [event])
    assert [one.message for one in await world.operations.events("shop", 10)] == ["it began"]

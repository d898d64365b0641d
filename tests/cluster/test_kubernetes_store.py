"""Rollouts as custom resources keep the store's contract, and its promises while the log is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.cluster import rollouts
from tests.cluster.kubectl import Cluster
from tests.cluster.rollouts import LEAST, manifest

from phoenix_orch.kernel.clock import ManualClock
from phoenix_orch.kernel.errors import Conflict, Invalid, Retryable, Terminal
from phoenix_orch.kube import config
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import Rollout, State, Status
from phoenix_orch.rollout.store import kubernetes_record as record
from phoenix_orch.rollout.store.kubernetes import KubernetesStore
from phoenix_orch.rollout.store.memory import MemoryStore
from phoenix_orch.rollout.store.valkey import ValkeyStore
from phoenix_orch.runtime.valkey_name import ServerInfo
from phoenix_orch.runtime.valkey_server import ValkeyServer
from phoenix_orch.testing.store_contract import CONTRACT, Check
from phoenix_orch.testing.store_samples import (
    SHOP,
    VERDICT,
    cause,
    command,
    event,
    observation,
    release,
    revision,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[KubeClient]:
    rollouts.define(cluster)
    async with KubeClient(config.load(cluster.kubeconfig)) as opened:
        yield opened


@pytest.fixture
def log() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def store(client: KubeClient, log: MemoryStore, namespace: str) -> KubernetesStore:
    return KubernetesStore(client, log, namespace=namespace, clock=ManualClock(NOW))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    keeper = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    yield asyncio.run(keeper.ensure())
    asyncio.run(keeper.stop())


@pytest.fixture
async def on_valkey(client: KubeClient, server: ServerInfo, namespace: str) -> AsyncIterator[KubernetesStore]:
    """As it is run: the log in Valkey, under a prefix of the namespace."""
    log = ValkeyStore(server.url, prefix=f"{namespace}:")
    yield KubernetesStore(client, log, namespace=namespace, clock=ManualClock(NOW))
    await log.close()


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_contract(check: Check, on_valkey: KubernetesStore) -> None:
    await check(on_valkey)


def resource(cluster: Cluster, namespace: str) -> Any:
    return cluster.get(rollouts.RESOURCE, "shop", "--namespace", namespace)


async def test_what_people_look_at_is_in_the_object(
    store: KubernetesStore, cluster: Cluster, namespace: str
) -> None:
    read = await store.put(SHOP)
    await store.show_verdict("shop", VERDICT)
    await store.append_observation("shop", observation(1))
    read = await store.get("shop")
    moving = Status(state=State.PROGRESSING, release=1, weight=5, canary="bbbb000000", message="5 % for 10m")
    await store.save(read, moving)
    found = resource(cluster, namespace)["status"]
    assert (found["state"], found["phase"], found["weight"], found["weightSeen"]) == (
        "Progressing",
        "only",
        5,
        5,
    )
    assert found["verdict"]["kind"] == "rollback"
    said = {condition["type"]: condition for condition in found["conditions"]}
    assert {kind: condition["status"] for kind, condition in said.items()} == {
        "Progressing": "True",
        "Healthy": "False",
        "Promoted": "False",
        "RolledBack": "False",
        "Stalled": "False",
    }
    assert said["Healthy"]["lastTransitionTime"] == "2026-01-01T12:00:00Z"
    assert found["observedGeneration"] == resource(cluster, namespace)["metadata"]["generation"]


async def test_decisions_and_commands_need_no_log(store: KubernetesStore, log: MemoryStore) -> None:
    await store.put(SHOP)
    log.away(10_000)
    await store.command("shop", command("c1"))
    read = await store.get("shop")
    read = await store.save(read, Status(handled=("c1",), release=1), events=[event(1)])
    read = await store.save(read, Status(release=2), events=[event(2)], release=release(2))
    with pytest.raises(Retryable):
        await store.events("shop")
    log.away(0)
    assert await store.events("shop") == [event(1), event(2)]
    assert await store.history("shop") == [release(2)]
    await store.save(read, Status(release=3), events=[event(3)])
    assert await store.events("shop") == [event(1), event(2), event(3)]


async def test_what_a_killed_process_did_not_log_is_logged_by_the_next(
    store: KubernetesStore, client: KubeClient, log: MemoryStore, namespace: str
) -> None:
    read = await store.put(SHOP)
    log.away(10_000)
    await store.save(read, Status(release=1), events=[event(1)], release=release(1))
    log.away(0)
    successor = KubernetesStore(client, log, namespace=namespace, clock=ManualClock(NOW))
    read = await successor.get("shop")
    await successor.save(read, Status(release=2), events=[event(2)])
    assert await log.events("shop") == [event(1), event(2)]
    assert await log.history("shop") == [release(1)]


async def test_many_events_between_do_not_make_the_log_repeat_itself(
    store: KubernetesStore, client: KubeClient, log: MemoryStore, namespace: str
) -> None:
    read = await store.put(SHOP)
    await store.save(read, Status(release=1), events=[event(1)])
    others = [event(number) for number in range(100, 150)]
    await store.append_events("shop", others)
    successor = KubernetesStore(client, log, namespace=namespace, clock=ManualClock(NOW))
    read = await successor.get("shop")
    await successor.save(read, Status(release=2), events=[event(2)])
    assert await successor.events("shop") == [event(1), *others, event(2)]


async def test_a_log_that_hangs_keeps_nobody(client: KubeClient, namespace: str) -> None:
    store = KubernetesStore(client, Hanging(), namespace=namespace, clock=ManualClock(NOW))
    async with asyncio.timeout(30):
        read = await store.put(SHOP)
        await store.command("shop", command("c1"))
        read = await store.get("shop")
        await store.save(read, Status(release=1, handled=("c1",)), events=[event(1)])
        assert (await store.get("shop")).status.release == 1


class Hanging(MemoryStore):
    async def get(self, name: str) -> Rollout:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_log_that_has_lost_everything_is_begun_anew(store: KubernetesStore, log: MemoryStore) -> None:
    read = await store.put(SHOP)
    await store.append_events("shop", [event(1)])
    await log.remove("shop")
    await store.append_observation("shop", observation(1))
    assert await store.observations("shop") == [observation(1)]
    read = await store.get("shop")
    await log.remove("shop")
    await store.save(read, Status(release=1), events=[event(2)], release=release(1))
    assert await store.events("shop") == [event(2)]
    assert await store.history("shop") == [release(1)]


async def test_the_same_verdict_wakes_nobody(store: KubernetesStore) -> None:
    version = (await store.put(SHOP)).version
    for seconds, writes in ((0, True), (10, False), (20, False), (30, True)):
        later = VERDICT.model_copy(
            update={"at": VERDICT.at + timedelta(seconds=seconds), "reason": f"{seconds}"}
        )
        await store.show_verdict("shop", later)
        found = (await store.get("shop")).version
        assert (found > version) == writes, seconds
        version = found


async def test_an_object_that_cannot_be_read_stops_no_other(
    store: KubernetesStore, cluster: Cluster, namespace: str
) -> None:
    await store.put(SHOP)
    await store.put(SHOP.model_copy(update={"name": "odd"}))
    patch = '{"status": {"state": "Musing"}}'
    words = (
        "patch",
        rollouts.RESOURCE,
        "odd",
        "--namespace",
        namespace,
        "--subresource=status",
        "--type=merge",
    )
    cluster.kubectl(*words, "--patch", patch)
    assert [rollout.name for rollout in await store.rollouts()] == ["shop"]
    with pytest.raises(Terminal, match=r"rollout odd cannot be read: status\.state"):
        await store.get("odd")


async def test_a_field_of_a_newer_phoenix_stays() -> None:
    found = {"metadata": {"name": "shop"}, "status": {"state": "Idle", "newer": 1}}
    status = record.status_of(found)
    assert status.state is State.IDLE
    assert record.with_status(found, status)["status"]["newer"] == 1


async def test_a_rollout_made_with_kubectl_is_one(
    store: KubernetesStore, cluster: Cluster, namespace: str
) -> None:
    rollouts.define(cluster)
    cluster.apply(manifest({**LEAST, "traffic": {"httpRoute": "shop"}}, namespace=namespace))
    (found,) = await store.rollouts()
    assert (found.name, found.service, found.route, found.target) == ("shop", "shop", "shop", "")
    assert found.spec == RolloutSpec()
    saved = await store.save(found, Status(release=1), events=[event(1)])
    assert await store.events("shop") == [event(1)]
    cluster.apply(
        manifest({**LEAST, "traffic": {"httpRoute": "shop"}, "policy": {"bake": "1h"}}, namespace=namespace)
    )
    with pytest.raises(Conflict):
        await store.save(saved, Status(release=2))


async def test_nothing_of_a_namesake_is_left(
    store: KubernetesStore, cluster: Cluster, namespace: str
) -> None:
    await store.put(SHOP)
    await store.append_events("shop", [event(1)])
    cluster.kubectl("delete", rollouts.RESOURCE, "shop", "--namespace", namespace)
    cluster.apply(manifest(LEAST, namespace=namespace))
    await store.append_events("shop", [event(2)])
    assert await store.events("shop") == [event(2)]


async def test_traffic_and_jobs_of_the_object_outlive_a_new_spec(
    store: KubernetesStore, cluster: Cluster, namespace: str
) -> None:
    rollouts.define(cluster)
    spec = {
        **LEAST,
        "canary": {"minReplicas": 3},
        "checks": [{"name": "smoke", "job": {"cronJob": "smoke"}}],
        "evidence": {"requests": "traefik"},
        "policy": {"promotion": "external"},
    }
    cluster.apply(manifest(spec, namespace=namespace))
    read = await store.get("shop")
    wanted = RolloutSpec.model_validate({"policy": {"bake": "2h"}, "evidence": {"interval": "5s"}})
    written = await store.put(read.model_copy(update={"spec": wanted, "target": "bbbb000000"}))
    assert (written.spec, written.target) == (wanted, "bbbb000000")
    found = resource(cluster, namespace)["spec"]
    assert found["canary"]["minReplicas"] == 3
    assert [check["name"] for check in found["checks"]] == ["smoke"]
    assert (found["evidence"]["requests"], found["evidence"]["interval"]) == ("traefik", "5s")
    assert (found["policy"]["promotion"], found["policy"]["bake"]) == ("external", "2h")


async def test_a_program_as_a_check_is_refused(store: KubernetesStore) -> None:
    spec = RolloutSpec.model_validate({"checks": [{"name": "a", "exec": {"command": ["true"]}}]})
    with pytest.raises(Invalid, match="there are none in Kubernetes"):
        await store.put(SHOP.model_copy(update={"spec": spec}))


async def test_the_object_stays_small(
    store: KubernetesStore, log: MemoryStore, cluster: Cluster, namespace: str
) -> None:
    """Everything that is kept in the object at its largest, with the log away for long: far below 1.5 MB."""
    read = await store.put(SHOP)
    log.away(10**6)
    ended = release(1, reason="x" * 500).model_copy(update={"verdict": VERDICT, "cause": cause("y" * 500)})
    for number in range(1, 40):
        events = [event(20 * number + i).model_copy(update={"message": "m" * 300}) for i in range(20)]
        status = Status(
            release=number, cause=cause("z" * 500), handled=tuple(f"{number}-{i:014}" for i in range(100))
        )
        read = await store.save(
            read, status, events=events, release=ended.model_copy(update={"number": number})
        )
    size = len(cluster.kubectl("get", rollouts.RESOURCE, "shop", "--namespace", namespace, "-o", "json"))
    assert size < 300_000
    log.away(0)
    assert (await store.events("shop"))[-1].at == event(20 * 39 + 19).at


async def test_templates_in_use_stay_in_the_log(store: KubernetesStore) -> None:
    first = await store.add_revision("shop", revision(1))
    await store.put(SHOP.model_copy(update={"target": first.revision}))
    for number in range(2, 60):
        await store.add_revision("shop", revision(number))
    assert (await store.revisions("shop"))[0] == first

"""Snapshots of volumes on a real API server: taken, kept, found again, let go, restored."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cluster import snapshot_crds
from tests.cluster.kubectl import Cluster
from tests.cluster.snapshot_controller import DRIVER, RESTORE_SIZE, Storage, playing, volume

from phoenix_orch.kernel.errors import BadState, Invalid, NotFound, PhoenixError, Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.resources import DEPLOYMENTS, PODS, Object
from phoenix_orch.recovery.hook_spec import Hook, Quiesce
from phoenix_orch.recovery.layout import Scope
from phoenix_orch.recovery.restore import volume_manifest
from phoenix_orch.recovery.restore.volume_swap import KEPT, NOTE, VolumeSwap, claims_of
from phoenix_orch.recovery.sources.snapshot_plan import CLAIMS, CONTENTS, OURS, SNAPSHOTS, VOLUMES, read_back
from phoenix_orch.recovery.sources.snapshots import SnapshotKeeper, SnapshotSource

SHORT = timedelta(seconds=15)
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
LABELS = {OURS: "b1"}


@pytest.fixture
async def storage(cluster: Cluster, kube: KubeClient, namespace: str) -> AsyncIterator[Storage]:
    snapshot_crds.install(cluster)
    classes = [
        {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshotClass",
            "metadata": {"name": "fast"},
            "driver": DRIVER,
            "deletionPolicy": "Delete",
        }
    ]
    cluster.apply(*classes)
    await claimed(kube, namespace, "data")
    async with playing(kube) as made:
        yield made


async def claimed(kube: KubeClient, namespace: str, name: str) -> Object:
    """A claim with its volume."""
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    pv = f"pv-{namespace}-{name}"
    await kube.create(VOLUMES, volume(pv, f"handle-{pv}", spec, {"namespace": namespace, "name": name}))
    body = {"metadata": {"name": name, "namespace": namespace}, "spec": {**spec, "volumeName": pv}}
    return await kube.create(CLAIMS, body)


async def gone(look: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await look()
            except NotFound:
                return
            await asyncio.sleep(0.1)


def keeper(kube: KubeClient, timeout: timedelta = SHORT) -> SnapshotKeeper:
    return SnapshotKeeper(kube, timeout=timeout, look=0.1)


async def test_a_snapshot_is_taken_kept_and_let_go(
    kube: KubeClient, namespace: str, storage: Storage
) -> None:
    one = await keeper(kube).take(namespace, "data", "s1", "", LABELS)
    assert one.driver == DRIVER
    assert one.snapshot_class == "fast"
    assert (one.size, one.restore_size) == (2**30, RESTORE_SIZE)
    assert storage.snapshots == {one.handle: f"handle-pv-{namespace}-data"}
    assert (await kube.get(CONTENTS, one.content))["spec"]["deletionPolicy"] == "Retain"
    assert read_back(one.stored()) == one
    await keeper(kube).forget(one)
    await gone(lambda: kube.get(SNAPSHOTS, "s1", namespace))
    await gone(lambda: kube.get(CONTENTS, one.content))
    assert storage.snapshots == {}
    await keeper(kube).forget(one)  # nothing is left to be done, and nothing fails


async def test_it_is_found_again_when_its_namespace_is_lost(
    kube: KubeClient, cluster: Cluster, storage: Storage
) -> None:
    lost, other = (f"phoenix-test-{secrets.token_hex(4)}" for _ in range(2))
    cluster.kubectl("create", "namespace", lost)
    await claimed(kube, lost, "data")
    one = await keeper(kube).take(lost, "data", "s1", "fast", LABELS)
    await asyncio.to_thread(cluster.kubectl, "delete", "namespace", lost, "--timeout=60s")
    assert one.handle in storage.snapshots
    cluster.kubectl("create", "namespace", other)
    try:
        name = await keeper(kube).found(one, other, "r1")
        assert await keeper(kube).found(one, other, "r1") == name
        content = (await kube.get(SNAPSHOTS, name, other))["status"]["boundVolumeSnapshotContentName"]
        assert (await kube.get(CONTENTS, content))["spec"]["source"] == {"snapshotHandle": one.handle}
    finally:
        cluster.kubectl("delete", "namespace", other, "--wait=false")


async def test_what_the_cluster_has_lost_is_deleted_in_the_storage(
    kube: KubeClient, namespace: str, storage: Storage
) -> None:
    one = await keeper(kube).take(namespace, "data", "s1", "", LABELS)
    for kind, name, place in ((SNAPSHOTS, "s1", namespace), (CONTENTS, one.content, "")):
        await kube.delete(kind, name, place, uid=(await kube.get(kind, name, place))["metadata"]["uid"])
        await gone(lambda kind=kind, name=name, place=place: kube.get(kind, name, place))  # type: ignore[misc]
    assert one.handle in storage.snapshots
    await keeper(kube).forget(one)
    async with asyncio.timeout(20):
        while storage.snapshots:
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ({"absent": True}, "no snapshot controller has taken it up"),
        ({"fault": "quota exceeded"}, "the storage says: quota exceeded"),
        ({"slow": True}, "the storage is still at it"),
    ],
)
async def test_what_is_not_ready_in_time_leaves_nothing(
    kube: KubeClient, namespace: str, storage: Storage, trouble: dict[str, Any], said: str
) -> None:
    for name, value in trouble.items():
        setattr(storage, name, value)
    with pytest.raises(Terminal, match=said):
        await keeper(kube, timedelta(seconds=2)).take(namespace, "data", "s1", "", LABELS)
    storage.absent = False
    await gone(lambda: kube.get(SNAPSHOTS, "s1", namespace))
    assert storage.snapshots == {}


async def test_an_error_that_passes_is_none(kube: KubeClient, namespace: str, storage: Storage) -> None:
    storage.fault = "too many at once"
    taking = asyncio.create_task(keeper(kube).take(namespace, "data", "s1", "", LABELS))
    await asyncio.sleep(1)
    assert not taking.done()
    storage.fault = ""
    assert (await taking).handle in storage.snapshots


async def test_claims_of_which_none_can_be_taken(kube: KubeClient, namespace: str, storage: Storage) -> None:
    with pytest.raises(NotFound):
        await keeper(kube).take(namespace, "none", "s1", "", LABELS)
    with pytest.raises(Invalid, match="no VolumeSnapshotClass slow"):
        await keeper(kube).take(namespace, "data", "s1", "slow", LABELS)
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "none",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    await kube.create(CLAIMS, {"metadata": {"name": "unbound", "namespace": namespace}, "spec": spec})
    with pytest.raises(BadState, match="no volume yet"):
        await keeper(kube).take(namespace, "unbound", "s1", "", LABELS)


async def test_the_source_brings_the_application_to_rest(
    kube: KubeClient, cluster: Cluster, namespace: str, storage: Storage, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    said = [Hook(command=("sh", "-c", f"echo {word} >> {log}")) for word in ("rest", "wake")]

    def source(quiesce: Quiesce) -> SnapshotSource:
        return SnapshotSource(
            Scope("test", "phoenix", "volume/shop"),
            namespace,
            "data",
            connect=lambda: KubeClient(load(cluster.kubeconfig, namespace=namespace)),
            quiesce=quiesce,
            notes=tmp_path / "notes",
            now=lambda: NOW,
            new_id=lambda: secrets.token_hex(4),
            timeout=SHORT,
        )

    def captured() -> Any:
        with source(Quiesce(before=(said[0],), after=(said[1],))).capture() as copy:
            assert log.read_text() == "rest\nwake\n"
            return copy.read(), copy.facts()

    content, facts = await asyncio.to_thread(captured)
    assert read_back(content).handle in storage.snapshots
    assert facts.content["snapshotHandle"] == read_back(content).handle
    assert len(facts.hooks) == 2

    def refused() -> None:
        with source(Quiesce(before=(Hook(command=("false",)),))).capture():
            pytest.fail("it was not at rest")

    with pytest.raises(Terminal, match="not at rest"):
        await asyncio.to_thread(refused)

    def not_published() -> None:
        with source(Quiesce()).capture():
            raise Terminal("the store is full")

    with pytest.raises(Terminal, match="store is full"):
        await asyncio.to_thread(not_published)
    async with asyncio.timeout(20):
        while len(storage.snapshots) > 1:
            await asyncio.sleep(0.1)
    assert list(storage.snapshots) == [read_back(content).handle]


async def test_the_guides_command_makes_a_new_volume(
    kube: KubeClient, cluster: Cluster, namespace: str, storage: Storage, tmp_path: Path
) -> None:
    """`kubectl apply -f backup/volume-restore.yaml`."""
    one = await keeper(kube).take(namespace, "data", "s1", "", LABELS)
    file = tmp_path / "volume-restore.yaml"
    made = volume_manifest.objects(one, namespace=namespace, suffix="b1", image="phoenix-orchestrator")
    file.write_text(volume_manifest.rendered(made))
    for _ in range(2):  # as often as one likes
        await asyncio.to_thread(cluster.kubectl, "apply", "-f", str(file))
    async with asyncio.timeout(30):
        while (claim := await kube.get(CLAIMS, "data-restore-b1", namespace))["status"]["phase"] != "Bound":
            await asyncio.sleep(0.1)
    handle = (await kube.get(VOLUMES, claim["spec"]["volumeName"]))["spec"]["csi"]["volumeHandle"]
    assert storage.volumes[handle] == one.handle
    job = json.loads(cluster.kubectl("get", "job", "verify-b1", "-n", namespace, "-o", "json"))
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["command"][0] == "/usr/local/bin/verify-state"
    assert container["volumeMounts"][0]["readOnly"] is True


async def test_a_restored_claim_takes_the_place_of_the_old_one(
    kube: KubeClient, namespace: str, storage: Storage
) -> None:
    await claimed(kube, namespace, "data-restore-b1")
    labels = {"app": "shop"}
    pod = {
        "containers": [{"name": "shop", "image": "shop"}],
        "volumes": [
            {"name": "state", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "scratch", "emptyDir": {}},
        ],
    }
    spec = {
        "replicas": 3,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    body = {"metadata": {"name": "shop", "namespace": namespace}, "spec": spec}
    await kube.create(DEPLOYMENTS, body)
    swap = VolumeSwap(kube, namespace, timeout=SHORT, look=0.1)
    with pytest.raises(Invalid, match="does not use the claim other"):
        await swap.deployment("shop", "other", "data-restore-b1", NOW)
    with pytest.raises(Invalid, match="does not use the claim other"):
        await swap.look("shop", "other", "data-restore-b1")
    with pytest.raises(NotFound):
        await swap.look("shop", "data", "data-restore-b2")
    before = await swap.look("shop", "data", "data-restore-b1")
    assert await kube.get(DEPLOYMENTS, "shop", namespace) == before
    for _ in range(2):
        await swap.deployment("shop", "data", "data-restore-b1", NOW)
    found = await kube.get(DEPLOYMENTS, "shop", namespace)
    assert claims_of(found) == {"data-restore-b1"}
    assert found["spec"]["replicas"] == 3
    assert NOTE not in found["metadata"].get("annotations", {})
    old = await kube.get(CLAIMS, "data", namespace)
    assert old["metadata"]["annotations"][KEPT] == NOW.isoformat()
    await swap.back("shop", "data", "data-restore-b1", NOW)
    assert claims_of(await kube.get(DEPLOYMENTS, "shop", namespace)) == {"data"}


async def test_an_exchange_that_was_killed_goes_on(
    kube: KubeClient, namespace: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of its writes."""
    await claimed(kube, namespace, "data-restore-b1")
    labels = {"app": "shop"}
    pod = {
        "containers": [{"name": "shop", "image": "shop"}],
        "volumes": [{"name": "state", "persistentVolumeClaim": {"claimName": "data"}}],
    }
    spec = {
        "replicas": 2,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    real = kube.patch
    for number in range(1, 5):
        name = f"shop-{number}"
        await kube.create(DEPLOYMENTS, {"metadata": {"name": name, "namespace": namespace}, "spec": spec})
        writes = 0

        async def killed(*words: Any, at: int = number, **more: Any) -> Object:
            nonlocal writes
            done = await real(*words, **more)
            writes += 1
            if writes == at:
                raise KeyboardInterrupt
            return done

        monkeypatch.setattr(kube, "patch", killed)
        swap = VolumeSwap(kube, namespace, timeout=SHORT, look=0.1)
        try:
            await swap.deployment(name, "data", "data-restore-b1", NOW)
        except KeyboardInterrupt:
            monkeypatch.setattr(kube, "patch", real)
            await swap.deployment(name, "data", "data-restore-b1", NOW)
        monkeypatch.setattr(kube, "patch", real)
        found = await kube.get(DEPLOYMENTS, name, namespace)
        assert (claims_of(found), found["spec"]["replicas"]) == ({"data-restore-b1"}, 2)
        assert writes >= min(number, 4)
        await kube.delete(DEPLOYMENTS, name, namespace, uid=found["metadata"]["uid"])
        await no_pods(kube, namespace)


async def no_pods(kube: KubeClient, namespace: str) -> None:
    async with asyncio.timeout(30):
        while (await kube.list(PODS, namespace)).items:
            await asyncio.sleep(0.1)


def test_the_description_of_another_version_is_refused() -> None:
    for text in (b"", b"{}", b'{"schema": 2}', b"[]"):
        with pytest.raises(PhoenixError):
            read_back(text)

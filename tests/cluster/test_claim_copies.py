"""Copies of snapshots away from the cluster: by a Job beside Phoenix, as a backup like any other."""

from __future__ import annotations

import asyncio
import json
import platform
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.claim_world import FAST, ClaimWorld, claim_world, section
from tests.cluster.kubectl import Cluster

from phoenix_orch.kernel.errors import BadState, PhoenixError, Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import PODS, Object
from phoenix_orch.orchestrator import backup_tasks
from phoenix_orch.orchestrator.cluster import copying
from phoenix_orch.orchestrator.cluster.copying import copied
from phoenix_orch.orchestrator.cluster.file import load as load_file
from phoenix_orch.orchestrator.drills import Asked, Drills
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.drill_report import Kind, Phase
from phoenix_orch.recovery.manifest import Level
from phoenix_orch.recovery.mover_job import COPYING, ORDER
from phoenix_orch.recovery.restore.state_job import JOBS
from phoenix_orch.recovery.sources.copied import CopyOrder
from phoenix_orch.recovery.sources.snapshot_plan import CLAIMS, CONTENTS, SNAPSHOTS

pytestmark = pytest.mark.timeout(300)
COPY = "copy/shop"
SQLITE = {"kind": "sqlite", "files": "*.db"}
SHOP = {"claim": "data", "offCluster": True, "checks": [SQLITE], "verify": {"user": 1000}}
LABELS = {"app": "master-orchestrator"}


@pytest.fixture
async def world(
    cluster: Cluster, kube: KubeClient, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ClaimWorld]:
    """With a pod of the orchestrator, which this process is; what a Job of a copy mounts is a folder here."""
    (tmp_path / "phoenix.yaml").write_text(json.dumps({"backup": section(tmp_path, {"shop": SHOP})}))
    monkeypatch.setattr(copying, "state_layout", lambda: Layout(tmp_path / "job"))
    files = tmp_path / "files"
    files.mkdir()
    with sqlite3.connect(files / "shop.db") as base:
        base.execute("CREATE TABLE orders (number INTEGER)")
    async with claim_world(cluster, kube, namespace, tmp_path) as made:
        await kube.create(PODS, orchestrator(tmp_path))
        made.node.act = lambda pod: published(pod, files)
        yield made


def orchestrator(folder: Path) -> Object:
    """As k8s/base makes one."""
    container = {
        "name": "phoenix",
        "image": "phoenix:7",
        "args": ["serve", "orchestrator", f"--file={folder}/phoenix.yaml"],
        "env": [
            {"name": "PHOENIX_APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "AWS_REGION", "value": "here"},
        ],
        "envFrom": [{"secretRef": {"name": "phoenix"}}],
        "volumeMounts": [
            {"name": "keys", "mountPath": "/etc/phoenix/backup", "readOnly": True},
            {"name": "scratch", "mountPath": "/tmp"},
        ],
        "securityContext": {"readOnlyRootFilesystem": True},
    }
    spec = {
        "containers": [{"name": "proxy", "image": "proxy:1"}, container],
        "securityContext": {"runAsUser": 65532, "fsGroup": 65532, "runAsNonRoot": True},
        "volumes": [
            {"name": "keys", "secret": {"secretName": "phoenix-backup"}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "of-the-proxy", "emptyDir": {}},
        ],
    }
    return {"metadata": {"name": platform.node(), "labels": LABELS}, "spec": spec}


def order_of(pod: Object) -> CopyOrder:
    (text,) = [one["value"] for one in pod["spec"]["containers"][0]["env"] if one["name"] == ORDER]
    return CopyOrder.model_validate_json(text)


def published(pod: Object, files: Path) -> str:
    """What the program of the Job does there; why not."""
    try:
        copied(order_of(pod), files)
    except PhoenixError as error:
        return error.message
    return ""


async def nothing_left(world: ClaimWorld, snapshots: int = 1) -> None:
    async with asyncio.timeout(60):
        while True:
            claims = {one["metadata"]["name"] for one in (await world.kube.list(CLAIMS)).items}
            jobs = (await world.kube.list(JOBS)).items
            if claims == {"data"} and not jobs and not world.storage.volumes:
                break
            await asyncio.sleep(0.1)
    assert len((await world.kube.list(SNAPSHOTS)).items) == snapshots
    refs = [one["spec"]["volumeSnapshotRef"] for one in (await world.kube.list(CONTENTS)).items]
    assert len([ref for ref in refs if ref["namespace"] == world.namespace]) == snapshots


async def test_a_snapshot_is_copied_by_a_job_beside_phoenix(world: ClaimWorld) -> None:
    backups = world.backups(shop=SHOP)
    snapshot = (await world.run(backups=backups)).manifest
    done = await world.run(COPY, backups)
    assert (done.manifest.component, done.look.level, done.look.passed) == (COPY, Level.STRUCTURE, True)
    assert done.manifest.content["files"] == 1
    assert done.manifest.source["backup"] == snapshot.id
    assert done.manifest.source["claim"] == "data"
    assert done.manifest.time.consistency_point == snapshot.time.consistency_point
    await nothing_left(world)

    (pod,) = world.node.ran
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert (container["image"], container["envFrom"]) == ("phoenix:7", [{"secretRef": {"name": "phoenix"}}])
    assert [one["name"] for one in container["env"]] == ["AWS_REGION", ORDER]
    assert container["volumeMounts"][-1]["readOnly"] is True
    assert [one["name"] for one in spec["volumes"]] == ["keys", "scratch", "phoenix-copied-state"]
    assert {key: spec["securityContext"][key] for key in ("runAsUser", "runAsGroup", "runAsNonRoot")} == {
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "runAsNonRoot": True,
    }
    assert "fsGroup" not in spec["securityContext"]
    assert spec["automountServiceAccountToken"] is False
    assert set(LABELS).isdisjoint(pod["metadata"]["labels"])
    assert COPYING in pod["metadata"]["labels"]


async def test_drills_restore_the_copy_and_a_schedule_makes_it(world: ClaimWorld) -> None:
    backups = world.backups(shop=SHOP)
    await world.run(backups=backups)
    await world.run(COPY, backups)
    drills = Drills(backups, Layout(world.folder / "state"), by="test")
    world.node.act = None
    report = await asyncio.to_thread(drills.run, Asked(Kind.WEEKLY, seed="s"))
    steps = [step for step in report.steps if step.component == COPY]
    assert [(step.phase, step.passed) for step in steps][-1] == (Phase.VOLUME, True)
    found = load_file(world.folder / "phoenix.yaml")
    schedules = {one.name: one for one in backup_tasks.schedules(found)}
    assert schedules["backup-copy-shop"].arguments == {"component": COPY}
    assert schedules["backup-copy-shop"].timing.every is not None
    assert schedules["backup-copy-shop"].timing.every.days == 1


async def test_a_copy_that_fails_leaves_nothing_and_says_why(world: ClaimWorld) -> None:
    backups = world.backups(shop=SHOP)
    with pytest.raises(BadState, match="no verified snapshot of shop"):
        await world.run(COPY, backups)
    await world.run(backups=backups)
    (world.folder / "files" / "shop.db").write_bytes(b"torn")
    with pytest.raises(Terminal, match=r"the files of .* are not whole: shop\.db"):
        await world.run(COPY, backups)
    await nothing_left(world)
    (view,) = backups.views(COPY)
    assert view.live == ()


async def test_what_a_copy_that_died_has_left_goes_with_the_next(world: ClaimWorld) -> None:
    backups = world.backups(shop=SHOP)
    await world.run(backups=backups)
    world.node.away = True
    running = asyncio.create_task(world.run(COPY, backups))
    async with asyncio.timeout(60):
        while not (jobs := (await world.kube.list(JOBS)).items):
            await asyncio.sleep(0.1)
    labels = {COPYING: jobs[0]["metadata"]["labels"][COPYING]}
    left: dict[str, Any] = {
        "metadata": {"name": "left", "labels": labels},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": FAST,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    await world.kube.create(CLAIMS, left)
    world.node.away = False
    await running
    await world.run(COPY, backups)
    await nothing_left(world)


async def test_only_a_pod_of_the_orchestrator_copies(world: ClaimWorld) -> None:
    backups = world.backups(shop=SHOP)
    await world.run(backups=backups)
    found = await world.kube.get(PODS, platform.node())
    await world.kube.delete(PODS, platform.node(), uid=found["metadata"]["uid"])
    async with asyncio.timeout(60):
        while platform.node() in {one["metadata"]["name"] for one in (await world.kube.list(PODS)).items}:
            await asyncio.sleep(0.1)
    with pytest.raises(BadState, match="are made by a pod of the orchestrator"):
        await world.run(COPY, backups)


async def test_another_storage_in_the_job_is_refused(world: ClaimWorld) -> None:
    """A folder that only the orchestrator has mounted."""
    backups = world.backups(shop=SHOP)
    await world.run(backups=backups)
    real = world.node.act
    assert real is not None

    def elsewhere(pod: Object) -> str:
        (world.folder / "bucket").rename(world.folder / "away")
        try:
            return real(pod)
        finally:
            (world.folder / "away").rename(world.folder / "bucket")

    world.node.act = elsewhere
    with pytest.raises(Terminal, match=r"another storage here than at the orchestrator|is empty"):
        await world.run(COPY, backups)
    (view,) = backups.views(COPY)
    assert view.live == ()

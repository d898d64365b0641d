"""The schedule of claims with two replicas: each slot's backup once, also when the one at it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cluster import snapshot_crds
from tests.cluster.claim_world import (
    CLASS,
    FAST,
    SHOP,
    backups_in,
    claimed,
    pruned,
    section,
    storage_class,
)
from tests.cluster.plane import ControlPlane
from tests.cluster.replicas import NAMESPACE, Replica, a_store, replicas
from tests.cluster.snapshot_controller import Storage, playing

from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.recovery.catalog import View
from phoenix_orch.recovery.manifest import Level

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
CLAIMS = {"shop": {"claim": "data", "timeout": "5m"}}


def written(folder: Path) -> Path:
    """The file of both replicas."""
    schedule = {"volume": "1m", "config": "1d"}
    file = folder / "phoenix.yaml"
    file.write_text(json.dumps({"backup": {**section(folder, CLAIMS), "schedule": schedule}}))
    return file


def allow(plane: ControlPlane) -> None:
    text = (ROOT / "k8s/backup/volumes/volume-rights.yaml").read_text("utf-8")
    mine = text.replace("namespace: phoenix-orch\n", f"namespace: {NAMESPACE}\n")
    plane.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=mine)


@contextlib.contextmanager
def snapshotting(plane: ControlPlane) -> Iterator[Storage]:
    """That takes snapshots of the claim `data`, in a thread: those who wait for it wait in this one."""
    over, begun, made = threading.Event(), threading.Event(), list[Storage]()

    async def run() -> None:
        await asyncio.to_thread(snapshot_crds.install, plane)
        await asyncio.to_thread(plane.apply, CLASS, storage_class(FAST, "Delete"))
        async with KubeClient(load(plane.kubeconfig, namespace=NAMESPACE)) as kube:
            await claimed(kube, NAMESPACE, "data")
            async with playing(kube) as played:
                made.append(played)
                begun.set()
                await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert begun.wait(120)
        yield made[0]
    finally:
        over.set()
        thread.join()


def test_each_slot_is_backed_up_once_whoever_is_killed_at_it(
    control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backups = backups_in(tmp_path, control_plane.kubeconfig, NAMESPACE, CLAIMS)

    def view() -> View:
        (found,) = backups.views(SHOP)
        return found

    def slots() -> Counter[Any]:
        return Counter(one.manifest.time.slot for one in view().live)

    with (
        a_store(tmp_path / "valkey") as store,
        replicas(control_plane, tmp_path, store, f"--file={written(tmp_path)}") as world,
        snapshotting(control_plane) as storage,
    ):
        operator = world.tokens["operator"]
        allow(control_plane)
        world.until("two slots", lambda: len(slots()) >= 2)
        assert set(slots().values()) == {1}
        assert None not in slots()
        # a look is recorded right after its backup is published
        world.until("all are looked at", lambda: all(one.level is Level.STRUCTURE for one in view().live))
        assert all(one.good for one in view().live)

        def running(replica: Replica = world.replicas[0]) -> list[dict[str, Any]]:
            answer = replica.call("/api/v1/tasks?state=running", operator)
            rows: list[dict[str, Any]] = answer.json()["items"] if answer.status_code == 200 else []
            return [one for one in rows if one["kind"] == "backup.run" and SHOP in json.dumps(one)]

        # the one that is at it is killed while the storage takes the snapshot
        def snapshots() -> set[str]:
            return set(control_plane.kubectl("get", "volumesnapshot", "-n", NAMESPACE, "-o", "name").split())

        world.until("nothing runs", lambda: not running())
        storage.slow = True
        taken = snapshots()

        world.until("one waits for the storage", lambda: running() and snapshots() - taken)
        (task,) = running()
        (orphan,) = snapshots() - taken
        (gone,) = [one for one in world.replicas if str(one.component.pid) in task["worker"]]
        (left,) = [one for one in world.replicas if one is not gone]
        before = slots()
        gone.component.end(signal.SIGKILL)
        storage.slow = False

        def of_task(replica: Replica) -> dict[str, Any]:
            found: dict[str, Any] = replica.call(f"/api/v1/tasks/{task['id']}", operator).json()
            return found

        world.until("the other one has ended it", lambda: of_task(left)["state"] == "succeeded")
        assert str(left.component.pid) in of_task(left)["worker"]
        assert datetime.fromisoformat(task["slot"]) in slots() - before
        assert set(slots().values()) == {1}
        world.until("all are looked at", lambda: all(one.level is Level.STRUCTURE for one in view().live))
        assert all(one.good for one in view().live)
        assert not view().faults
        place = "/api/v1/schedules/backup-volume-shop/pause"
        assert left.call(place, operator, {}).status_code == 200

        # what the dead one had begun is swept a day later, and nothing else
        world.until("nothing runs", lambda: not running(left))
        known = {one.manifest.content["snapshotHandle"] for one in view().live}
        assert known < set(storage.snapshots)
        assert len(storage.snapshots) == len(known) + 1
        pruned(backups, SHOP, timedelta(0), last=len(known))
        assert orphan in snapshots()
        monkeypatch.setattr("phoenix_orch.orchestrator.cluster.volumes.ORPHANS", timedelta(0))
        swept = pruned(backups, SHOP, timedelta(0), last=len(known)).swept
        assert [one.rpartition("/")[2] for one in swept] == [orphan.rpartition("/")[2]]
        world.until("it has gone", lambda: set(storage.snapshots) == known)
        assert all(backups.verify(one).passed for one in view().live)

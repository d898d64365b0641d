"""Backups that two replicas of an orchestrator take for their cluster: each slot once, one history."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.backup_stage import IDENTITY, OFFLINE
from tests.cluster.plane import ControlPlane
from tests.cluster.replicas import NAMESPACE, Replica, a_store, replicas
from tests.redis_server import filled, serving

from phoenix_orch.recovery.catalog import Catalog, View
from phoenix_orch.recovery.config_verify import ConfigStructure
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.layout import Scope
from phoenix_orch.recovery.manifest import Level, TriggerKind
from phoenix_orch.recovery.signing import Trust, signing_key
from phoenix_orch.recovery.verifying import Verifier

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
SETTINGS = ("configmap", "settings", "-n", NAMESPACE)


def written(folder: Path, port: int) -> Path:
    """The file of both replicas, and what their pods would have mounted."""
    (folder / "online.key").write_text(f"{IDENTITY.key}\n")
    (folder / "redis.password").write_text("hush-hush\n")
    file = folder / "phoenix.yaml"
    backup = {
        "cluster": "test",
        "storage": {"folder": "bucket"},
        "signingKeyFile": "signing.pem",
        "identityFile": "online.key",
        "recipients": [
            {"name": "here", "key": IDENTITY.public},
            {"name": "safe", "key": OFFLINE.public, "offline": True},
        ],
        "redis": {"cache": {"address": f"127.0.0.1:{port}", "passwordFile": "redis.password"}},
        "configuration": {"kinds": ["ConfigMap", "Secret", "Deployment", "StatefulSet"]},
        "schedule": {"redis": "1m", "config": "1m"},
    }
    file.write_text(json.dumps({"backup": backup}))
    return file


def allow(plane: ControlPlane) -> None:
    text = (ROOT / "k8s/backup/config-rights.yaml").read_text("utf-8")
    plane.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=text)
    subject = f'[{{"op": "add", "path": "/subjects/0/namespace", "value": "{NAMESPACE}"}}]'
    words = ("patch", "rolebinding", "phoenix-backup-config", "--type=json", "-p", subject)
    plane.kubectl("-n", NAMESPACE, *words)


def test_two_replicas_back_up_each_slot_once_and_go_on_with_one_history(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    trust = Trust([signing_key(tmp_path / "signing.pem").public])
    storage = FolderStore(tmp_path / "bucket")

    def view(component: str) -> View:
        return Catalog(storage, trust).read(Scope("test", NAMESPACE, component))

    with (
        serving(tmp_path / "redis", "--requirepass", "hush-hush") as server,
        a_store(tmp_path / "valkey") as store,
        replicas(control_plane, tmp_path, store, f"--file={written(tmp_path, server.port)}") as world,
    ):
        filled(server.client(password="hush-hush"), 30)
        one, other = world.replicas
        operator = world.tokens["operator"]

        def task(replica: Replica, component: str) -> dict[str, Any]:
            made = replica.call(
                "/api/v1/tasks", operator, {"kind": "backup.run", "arguments": {"component": component}}
            )
            assert made.status_code == 202, made.text
            place = f"/api/v1/tasks/{made.json()['id']}"
            ended = {"succeeded", "failed"}
            world.until("it ended", lambda: replica.call(place, operator).json()["state"] in ended)
            found: dict[str, Any] = replica.call(place, operator).json()
            return found

        # without the Role nothing is read of the namespace, and that is said
        refused = task(one, "config")
        assert refused["state"] == "failed"
        assert "may not list" in json.dumps(refused)
        allow(control_plane)

        # the schedules run each slot once, with two workers
        def slots(component: str) -> list[Any]:
            found = view(component).live
            return [made.manifest.time.slot for made in found if made.manifest.time.slot is not None]

        world.until("two slots of each", lambda: all(len(slots(c)) >= 2 for c in ("config", "redis/cache")))
        for component in ("config", "redis/cache"):
            assert set(Counter(slots(component)).values()) == {1}
            assert not view(component).faults
            assert all(made.good for made in view(component).live)
        scheduled = [made for made in view("redis/cache").live if made.manifest.time.slot is not None]
        assert {made.manifest.trigger.kind for made in scheduled} == {TriggerKind.SCHEDULE}
        assert scheduled[0].manifest.content["keys"] == 210
        for schedule in ("backup-config", "backup-redis-cache"):
            place = f"/api/v1/schedules/{schedule}/pause"
            assert other.call(place, operator, {}).status_code == 200

        # the other replica goes on with the history of the one that is gone
        last = task(one, "config")
        assert last["state"] == "succeeded", last
        (gone,) = [each for each in world.replicas if str(each.component.pid) in last["worker"]]
        (alive,) = [each for each in world.replicas if each is not gone]
        before = view("config").live[0].manifest.content
        gone.component.end(signal.SIGKILL)
        control_plane.kubectl("create", *SETTINGS, "--from-literal=a=1")
        assert task(alive, "config")["state"] == "succeeded"
        newest = view("config").live[0]
        assert newest.manifest.content["objects"] == before["objects"] + 1
        look = Verifier(storage, [IDENTITY], storage.now, "test").look(
            newest.manifest, newest.sha256, Level.STRUCTURE, structural=ConfigStructure()
        )
        assert look.passed, look.detail
        # its beginning, the first copy, and the one with the ConfigMap: no secret was written anew
        assert look.detail.startswith("3 commits"), look.detail

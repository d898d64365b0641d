"""A Redis that phoenix.yaml names is copied, verified and scheduled like everything else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.backup_stage import IDENTITY, OFFLINE
from tests.redis_server import cluster, filled, serving

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.backup_tasks import schedules
from phoenix_orch.orchestrator.backups import Backups
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.manifest import Level, Trigger, TriggerKind
from phoenix_orch.recovery.spec import BackupSpec

MANUAL = Trigger(kind=TriggerKind.MANUAL, actor="test")


def spec(folder: Path, **redis: object) -> BackupSpec:
    (folder / "online.key").write_text(f"{IDENTITY.key}\n")
    return BackupSpec.model_validate(
        {
            "storage": {"folder": "bucket"},
            "identityFile": "online.key",
            "recipients": [
                {"name": "here", "key": IDENTITY.public},
                {"name": "safe", "key": OFFLINE.public, "offline": True},
            ],
            "redis": redis,
        }
    ).placed(folder)


def test_a_redis_is_copied_and_verified_to_level_3(tmp_path):
    (tmp_path / "password").write_text("hush-hush\n")
    with serving(tmp_path / "a", "--requirepass", "hush-hush") as server:
        filled(server.client(password="hush-hush"), 30)
        there = {"address": f"127.0.0.1:{server.port}", "passwordFile": "password"}
        backups = Backups(spec(tmp_path, cache=there), Layout(tmp_path / "data"))
        assert set(backups.sources()) == {"config", "redis/cache"}
        made = backups.run("redis/cache", MANUAL)
    assert made is not None
    assert made.manifest.content["keys"] == 210
    look = made.look
    assert [one.level for one in backups.one(component="redis/cache").verifications] == [2, 3]
    assert (look.level, look.passed) == (Level.STRUCTURE, True)
    assert "210 keys" in look.detail
    assert backups.one(component="redis/cache").good
    look = backups.verify(backups.one(component="redis/cache"), Level.LOADED)
    assert (look.level, look.passed) == (Level.LOADED, True)
    assert backups.one(component="redis/cache").level is Level.LOADED
    with pytest.raises(Invalid, match="level 5 is seen where everything is recovered") as refused:
        backups.verify(backups.one(component="redis/cache"), Level.SERVED)
    assert refused.value.remedy == "phoenix drill run monthly"


def test_each_shard_of_a_cluster_is_a_component(tmp_path):
    with cluster(tmp_path, shards=2, replicas=0) as nodes:
        there = {"address": f"127.0.0.1:{nodes[0].port}", "shards": 2}
        backups = Backups(spec(tmp_path, cache=there), Layout(tmp_path / "data"))
        for number in range(2):
            assert backups.run(f"redis/cache.shard{number}", MANUAL) is not None
        wrong = Backups(spec(tmp_path, cache={**there, "shards": 3}), Layout(tmp_path / "data"))
        with pytest.raises(Invalid, match="has 2 shards"):
            wrong.run("redis/cache.shard0", MANUAL)


def test_schedules_and_missing_passwords(tmp_path):
    found = spec(
        tmp_path,
        cache={"address": "h:1", "passwordEnv": "NOT_SET_ANYWHERE"},
        main={"address": "h:2", "shards": 2},
    )
    names = {one.name: one.target for one in schedules(SimpleNamespace(backup=found))}
    assert names["backup-redis-cache"] == "redis/cache"
    assert names["backup-redis-main-shard1"] == "redis/main.shard1"
    with pytest.raises(Invalid, match="no NOT_SET_ANYWHERE"):
        Backups(found, Layout(tmp_path / "data")).run("redis/cache", MANUAL)

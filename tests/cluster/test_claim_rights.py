"""Least privilege: who backs up claims has the rights of `k8s/backup/volumes`, uses each, and no other."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from tests.cluster.claim_world import SHOP, backups_in, claim_world, claimed, pruned
from tests.cluster.helm_program import Helm
from tests.cluster.plane import ControlPlane
from tests.cluster.test_deployment_rights import single
from tests.faults.test_kube_rights import denied, used

from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.orchestrator.backups import Backups
from phoenix_orch.orchestrator.drills import Asked, Drills
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.drill_report import Kind
from phoenix_orch.recovery.manifest import Trigger, TriggerKind

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).parents[2]
FILE = ROOT / "k8s/backup/volumes/volume-rights.yaml"
NAMESPACE, ACCOUNT = "phoenix-orch", "master-orchestrator"
DB = "volume/db.data-db-0"
CLAIMS = {"shop": {"claim": "data"}, "db": {"labels": {"app": "db"}}}


def everything(backups: Backups, folder: Path) -> None:
    """That a schedule does with claims, once."""
    trigger = Trigger(kind=TriggerKind.SCHEDULE, actor="test")
    assert backups.members("volume/db") == [DB]
    for component in (SHOP, DB, DB):
        published = backups.run(component, trigger)
        assert published is not None
        assert published.look.passed, published.look.detail
    report = Drills(backups, Layout(folder / "state"), by="test").run(Asked(Kind.WEEKLY, seed="s"))
    rehearsed = [step for step in report.steps if step.phase == "volume"]
    assert len(rehearsed) == 2
    assert all(step.passed for step in rehearsed), rehearsed
    for days in (0, 2):
        pruned(backups, DB, timedelta(days=days))
    assert len(backups.views(DB)[0].backups) == 1


async def test_each_right_is_used_and_none_is_missing(control_plane: ControlPlane, tmp_path: Path) -> None:
    control_plane.kubectl("create", "namespace", NAMESPACE)
    user = control_plane.service_account(NAMESPACE, ACCOUNT)
    control_plane.kubectl("apply", "-k", str(FILE.parent))
    async with (
        KubeClient(load(control_plane.kubeconfig, namespace=NAMESPACE)) as kube,
        claim_world(control_plane, kube, NAMESPACE, tmp_path) as world,
    ):
        await claimed(kube, NAMESPACE, "data-db-0", {"app": "db"})
        backups = backups_in(tmp_path, user, NAMESPACE, CLAIMS)
        await asyncio.to_thread(everything, backups, tmp_path)
        async with asyncio.timeout(60):
            while len(world.storage.snapshots) != 2:
                await asyncio.sleep(0.1)
    documents = [one for one in YAML(typ="safe").load_all(FILE.read_text("utf-8")) if one]
    granted = single(rule for one in documents for rule in one.get("rules", ()))
    events = control_plane.audit_events(f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}")
    assert denied(events) == []
    assert used(events) == granted


def test_the_chart_gives_the_same_rights_to_who_asks_for_them(helm: Helm) -> None:
    files = {"configuration": ROOT / "k8s/backup/config-rights.yaml", "volumes": FILE}
    for name, file in files.items():
        made = {one["kind"]: one for one in helm.objects("release", {"backup": {name: True}}) if _ours(one)}
        wanted = {one["kind"]: one for one in YAML(typ="safe").load_all(file.read_text("utf-8")) if one}
        assert made.keys() == wanted.keys()
        for kind, one in made.items():
            assert one.get("rules") == wanted[kind].get("rules")
            cluster_wide = kind.startswith("Cluster")
            assert one["metadata"]["name"] == (
                "release:backup-volumes" if cluster_wide else wanted[kind]["metadata"]["name"]
            )
            for subject in one.get("subjects", ()):
                assert (subject["name"], subject["namespace"]) == (ACCOUNT, "release")
    assert not [one for one in helm.objects("release") if _ours(one)]


def _ours(one: dict[str, object]) -> bool:
    metadata = one["metadata"]
    assert isinstance(metadata, dict)
    return "backup" in metadata["name"]

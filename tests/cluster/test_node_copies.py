"""A snapshot of a real volume is copied away from its cluster, by a Job beside Phoenix; a drill restores it.

Both what the storage has, and the copy.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.awaiting import eventually
from tests.cluster.claim_world import section
from tests.cluster.node.cluster import NodeCluster
from tests.cluster.node.storage import Storage
from tests.cluster.volume_stage import CLAIM, NAME, PORT, claim, forwarded, has_entries, manifests

from phoenix_orch.kube.config import load
from phoenix_orch.orchestrator.backup_home import Home
from phoenix_orch.orchestrator.backups import Backups
from phoenix_orch.orchestrator.cluster.backing_up import home_in
from phoenix_orch.orchestrator.drills import Asked, Drills
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.cluster_spec import ClusterBackupSpec
from phoenix_orch.recovery.drill_report import Kind, Phase

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.geteuid() != 0, reason="a cluster with a node needs root"),
]
ROOT = Path(__file__).parents[2]
FILE, KEYS = "/etc/phoenix/file", "/etc/phoenix/backup"
PATIENCE = "400s"
POD = "master-orchestrator"


@pytest.fixture
def phoenix_space(node_cluster: NodeCluster, node_namespace: str) -> Iterator[str]:
    """The namespace of Phoenix; the application is in another one."""
    name = f"{node_namespace}-phoenix"
    node_cluster.kubectl("create", "namespace", name)
    node_cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    node_cluster.kubectl("delete", "namespace", name, "--wait=false")
    for kind in ("clusterrole", "clusterrolebinding"):
        node_cluster.kubectl("delete", kind, f"{name}:backup-volumes", "--ignore-not-found")


def rights(cluster: NodeCluster, namespace: str, application: str) -> None:
    """`k8s/backup/volumes` for Phoenix in this namespace, and its Role in that of the application."""
    text = (ROOT / "k8s/backup/volumes/volume-rights.yaml").read_text("utf-8")
    cluster.kubectl("create", "serviceaccount", POD, "-n", namespace)
    for place in (namespace, application):
        cluster.kubectl("apply", "-n", place, "-f", "-", stdin=text.replace("phoenix-orch", namespace))


def settings(folder: Path, namespace: str, image: str) -> dict[str, Any]:
    """`backup` of phoenix.yaml; its keys are made in a folder. `image`: looks at what a drill restores."""
    service = f"http://{NAME}.{namespace}:{PORT}"
    wanted = {
        "claim": CLAIM,
        "namespace": namespace,
        "offCluster": True,
        "verify": {"image": image},
        "quiesce": {"before": [{"url": f"{service}/rest"}], "after": [{"url": f"{service}/wake"}]},
        "checks": [{"kind": "sqlite", "files": "ledger.db"}, {"kind": "json", "files": "length.json"}],
    }
    return section(folder, {NAME: wanted})


def orchestrator(namespace: str, image: str, folder: Path, backup: dict[str, Any]) -> list[dict[str, Any]]:
    """A pod that has what the orchestrator's has, in which a person types commands."""
    placed = backup | {
        "storage": {"folder": "/bucket"},
        "signingKeyFile": f"{KEYS}/signing.pem",
        "identityFile": f"{KEYS}/online.key",
    }
    keys = {name: (folder / name).read_text("utf-8") for name in ("signing.pem", "online.key")}
    meta = {"namespace": namespace}
    mounts = {"file": FILE, "keys": KEYS, "bucket": "/bucket", "scratch": "/tmp"}
    container = {
        "name": "phoenix",
        "image": image,
        "command": ["python3", "-c", "import signal; signal.pause()", f"--file={FILE}/phoenix.yaml"],
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "serviceAccountName": POD,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "file", "configMap": {"name": "phoenix-file"}},
            {"name": "keys", "secret": {"secretName": "phoenix-backup", "defaultMode": 0o444}},
            {"name": "bucket", "persistentVolumeClaim": {"claimName": "bucket"}},
            {"name": "scratch", "emptyDir": {}},
        ],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "phoenix-file", **meta},
            "data": {"phoenix.yaml": json.dumps({"backup": placed})},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "phoenix-backup", **meta},
            "stringData": keys,
        },
        claim(namespace, "bucket"),
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD, **meta}, "spec": pod},
    ]


def test_what_a_snapshot_holds_is_published_and_nothing_of_it_stays(
    node_cluster: NodeCluster,
    node_namespace: str,
    phoenix_space: str,
    node_storage: Storage,
    node_phoenix: str,
    tmp_path: Path,
) -> None:
    cluster = node_cluster
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": node_namespace},
        "spec": {"selector": {"app": NAME}, "ports": [{"port": PORT}]},
    }
    backup = settings(tmp_path, node_namespace, node_phoenix)
    rights(cluster, phoenix_space, node_namespace)
    cluster.apply(*manifests(node_namespace, node_phoenix), service)
    cluster.apply(*orchestrator(phoenix_space, node_phoenix, tmp_path, backup))
    rolled = ("rollout", "status", f"deployment/{NAME}", "-n", node_namespace, f"--timeout={PATIENCE}")
    cluster.kubectl(*rolled, timeout=420)
    ready = ("wait", f"pod/{POD}", "-n", phoenix_space, "--for=condition=Ready", f"--timeout={PATIENCE}")
    cluster.kubectl(*ready, timeout=420)

    def run(component: str) -> Any:
        words = ("backup", "run", component, "--file", f"{FILE}/phoenix.yaml", "-o", "json")
        inside = ("exec", POD, "-n", phoenix_space, "--", "python3", "-m", "phoenix_orch", *words)
        return json.loads(cluster.kubectl(*inside, timeout=400))

    with forwarded(cluster, node_namespace) as url:
        has_entries(url, 20)
        run(f"volume/{NAME}")
        has_entries(url, 40)  # it was woken
    run(f"copy/{NAME}")

    volume = cluster.get("pvc", "bucket", "-n", phoenix_space)["spec"]["volumeName"]
    handle = cluster.get("pv", volume)["spec"]["csi"]["volumeHandle"]
    spec = ClusterBackupSpec.model_validate(
        backup | {"storage": {"folder": str(node_storage.root / "volumes" / handle / "data")}}
    )
    home = Home("test", phoenix_space, signing_key=tmp_path / "signing.pem")
    backups = Backups(spec, Layout(tmp_path / "state"), by="test", home=home)
    copy = backups.one(component=f"copy/{NAME}")
    taken = backups.one(component=f"volume/{NAME}")
    assert copy.good
    assert copy.level == 3
    assert copy.manifest.source["backup"] == taken.id
    assert copy.manifest.time.consistency_point == taken.manifest.time.consistency_point
    with (tmp_path / "volume.tar").open("wb+") as file:
        backups.cat(copy, file)
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            archive.extractall(tmp_path / "back", filter="data")
    files = tmp_path / "back" / "files"
    length = json.loads((files / "length.json").read_text("utf-8"))["entries"]
    with contextlib.closing(sqlite3.connect(files / "ledger.db")) as base:
        assert base.execute("SELECT count(*), max(number) FROM entries").fetchone() == (length, length)

    def left(namespace: str) -> dict[str, set[str]]:
        kinds = ("pvc", "jobs", "volumesnapshots")
        found = {kind: cluster.get(kind, "-n", namespace)["items"] for kind in kinds}
        return {kind: {str(one["metadata"]["name"]) for one in there} for kind, there in found.items()}

    def eventually_left(namespace: str, claim: str, snapshots: set[str]) -> None:
        wanted = {"pvc": {claim}, "jobs": set[str](), "volumesnapshots": snapshots}
        eventually(f"nothing else is left in {namespace}", lambda: left(namespace) == wanted, 240)

    eventually_left(phoenix_space, "bucket", set())
    assert taken.manifest.content["snapshotHandle"] in node_storage.snapshots()

    home = home_in(load(cluster.kubeconfig, namespace=phoenix_space))(spec)
    here = Layout(tmp_path / "drills")
    report = Drills(Backups(spec, here, by="test", home=home), here, by="test").run(Asked(Kind.WEEKLY))
    for component in (f"volume/{NAME}", f"copy/{NAME}"):
        steps = [step for step in report.steps if step.component == component]
        assert steps, report
        assert all(step.passed for step in steps), steps
        assert Phase.VOLUME in {step.phase for step in steps}, steps
    eventually_left(node_namespace, CLAIM, {taken.manifest.source["snapshot"]})

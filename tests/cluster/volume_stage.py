"""A shop's ledger on a volume of the node: its manifests, what hooks call, what it tells."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from tests.cluster import programs
from tests.cluster.awaiting import eventually
from tests.cluster.kubectl import Cluster
from tests.cluster.node import storage

CLAIM, NAME, PORT = "data", "ledger", 8080
PROGRAM = Path(__file__).parent / "node" / "ledger.py"
MAKE_STATE = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.runtime.valkey_server import ValkeyServer
from phoenix_orch.security.audit_chain import Entry
from phoenix_orch.security.audit_log import AuditLog

async def once(server):
    await server.ensure()
    await server.stop()

root = Path(sys.argv[1])
if not (root / "valkey" / "appendonlydir").exists():
    layout = Layout(root)
    layout.make()
    entry = Entry(at=datetime.now(UTC), actor="ann", action="rollout.abort", target="rollout/shop")
    AuditLog(layout.audit).append([entry] * 3)
    asyncio.run(once(ValkeyServer(layout.valkey)))
"""
"""Leaves a directory as a Phoenix that has ended does."""
CHECK = """
import json, pathlib, sqlite3
folder = pathlib.Path("/state")
base = sqlite3.connect("file:/state/ledger.db?immutable=1", uri=True)
(sound,), = base.execute("PRAGMA quick_check")
first, last, count = base.execute("SELECT min(number), max(number), count(*) FROM entries").fetchone()
length = json.loads((folder / "length.json").read_text())["entries"]
print(json.dumps({"sound": sound, "first": first, "last": last, "count": count, "length": length}))
raise SystemExit(not (sound == "ok" and last - first + 1 == count == length))
"""
"""The application's own: the database is sound, has no gap, and agrees with the file beside it."""
_HARMLESS = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def manifests(namespace: str, image: str) -> list[dict[str, Any]]:
    """A claim, and a Deployment that writes to it."""
    labels = {"app": NAME}
    mounts = [
        {"name": "state", "mountPath": "/state"},
        {"name": "scratch", "mountPath": "/tmp"},
    ]
    shared = {"image": image, "securityContext": _HARMLESS, "volumeMounts": mounts}
    ledger = {
        **shared,
        "name": NAME,
        "command": ["python3", "/app/ledger.py", "/state", str(PORT)],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
        "volumeMounts": [*mounts, {"name": "program", "mountPath": "/app"}],
    }
    state = {**shared, "name": "state", "command": ["python3", "-c", MAKE_STATE, "/state/phoenix"]}
    pod = {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [state],
        "containers": [ledger],
        "volumes": [
            {"name": "state", "persistentVolumeClaim": {"claimName": CLAIM}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "program", "configMap": {"name": NAME}},
        ],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": namespace},
            "data": {"ledger.py": PROGRAM.read_text("utf-8")},
        },
        claim(namespace, CLAIM),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": NAME, "namespace": namespace, "labels": labels},
            "spec": {
                "replicas": 1,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    ]


def orchestrator(namespace: str, image: str) -> dict[str, Any]:
    """A Phoenix with its own state on a volume, whose pod has the name that the operations guide gives it."""
    labels = {"app": "master-orchestrator"}
    container = {
        "name": "phoenix",
        "image": image,
        "args": ["up", "--no-listen"],
        "env": [{"name": "PHOENIX_DATA_DIR", "value": "/state/phoenix"}],
        "securityContext": _HARMLESS,
        "volumeMounts": [
            {"name": "state", "mountPath": "/state"},
            {"name": "scratch", "mountPath": "/tmp"},
        ],
    }
    pod = {
        "terminationGracePeriodSeconds": 10,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "scratch", "emptyDir": {}}],
    }
    template = claim(namespace, "state")
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "master-orchestrator", "namespace": namespace},
        "spec": {
            "serviceName": "master-orchestrator",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
            "volumeClaimTemplates": [{"metadata": {"name": "state"}, "spec": template["spec"]}],
        },
    }


def claim(namespace: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage.CLASS,
            "resources": {"requests": {"storage": "16Mi"}},
        },
    }


@contextlib.contextmanager
def forwarded(cluster: Cluster, namespace: str) -> Iterator[str]:
    """The ledger's address on this machine; kubectl leads to its pod."""
    words = ["--kubeconfig", str(cluster.kubeconfig), "port-forward", "-n", namespace]
    command = [str(programs.kubectl()), *words, f"deployment/{NAME}", f":{PORT}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+)", process.stdout.readline())
            assert found is not None
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            process.kill()


def told(url: str) -> dict[str, Any]:
    """What the ledger tells of itself."""
    found: dict[str, Any] = httpx.get(url, trust_env=False, timeout=30).raise_for_status().json()
    return found


def has_entries(url: str, more_than: int) -> int:
    eventually("the ledger is written", lambda: told(url)["entries"] > more_than, 240)
    return int(told(url)["entries"])

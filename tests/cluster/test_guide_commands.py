"""The commands of the operations guide, word for word, on a master-orchestrator that runs in the cluster.

Phoenix releases itself here: the orchestrator that is replaced is the one that does it.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.cluster import deployed, programs, rollouts
from tests.cluster.kubectl import Cluster
from tests.cluster.node import shop
from tests.cluster.node.cluster import NodeCluster
from tests.cluster.serving import until
from tests.faults.story_users import Users

USAGE = """
# Deploy canary version
kubectl apply -f k8s/canary/deployment.yaml

# Monitor progress
kubectl logs -f -l app=health-validator -n phoenix-orch

# View traffic distribution
kubectl get ingress -n phoenix-orch
"""
MANUAL_ROLLBACK = """
# View deployment history
kubectl rollout history deployment/master-orchestrator -n phoenix-orch

# Rollback to previous version
kubectl rollout undo deployment/master-orchestrator -n phoenix-orch

# Monitor rollback
kubectl rollout status deployment/master-orchestrator -n phoenix-orch
"""
TRAFFIC_CONTROL = 'nginx.ingress.kubernetes.io/canary-weight: "5"'
"""Of the file below."""
APPLY, LOGS, INGRESSES = (line for line in USAGE.splitlines() if line.startswith("kubectl"))
HISTORY, UNDO, STATUS = (line for line in MANUAL_ROLLBACK.splitlines() if line.startswith("kubectl"))
CANARY_FILES = deployed.ROOT / "k8s/canary"
KUBERC = deployed.ROOT / "k8s/kubectl/kuberc.yaml"
NAME = deployed.ORCHESTRATOR
CANARY = f"{NAME}-canary"
HOST = "phoenix.example"
"""Of the Ingresses there."""
RATE = 20.0
PATIENCE = 300.0
LIMITS = {"errorRate": "5%"}
PHASES = [
    {"name": "initial", "weight": 5, "duration": "30s", "limits": LIMITS},
    {"name": "full", "step": 95, "every": "10s", "limits": LIMITS},
]
"""The guide's first weight, and less time."""


class Shell:
    """Where a person types the guide's commands: in the root of the repository."""

    def __init__(self, kubeconfig: Path, **environment: str) -> None:
        path = f"{programs.kubectl().parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "KUBECONFIG": str(kubeconfig), **environment}

    def __call__(self, command: str, *, stdin: str = "") -> str:
        """What it prints; it has to succeed."""
        done = subprocess.run(
            shlex.split(command),
            cwd=deployed.ROOT,
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def begin(self, command: str, output: Path) -> subprocess.Popen[bytes]:
        """Start one that does not end by itself."""
        with output.open("wb") as out:
            return subprocess.Popen(
                shlex.split(command), cwd=deployed.ROOT, env=self._environment, stdout=out
            )


class Orchestrator:
    """The Deployment that the guide is about, its Rollout, and a person's shell."""

    def __init__(self, cluster: NodeCluster) -> None:
        self.cluster = cluster
        self.shell = Shell(cluster.kubeconfig)

    def ready(self, now: str, *, bake: str) -> None:
        """It runs the image `now`, which is no release, and a Rollout of it waits for one."""
        known = self.stable()
        self.shell(f"kubectl set image deployment/{NAME} phoenix={now} -n phoenix-orch")
        self.shell(STATUS)
        self.cluster.apply(_rollout(bake))
        until(
            "Phoenix takes it as it is", lambda: self.stable() != known and self.rests(), PATIENCE, self.told
        )

    def release(self, image: str) -> None:
        """The canary's manifest with this image."""
        manifest = (CANARY_FILES / "deployment.yaml").read_text("utf-8")
        self.shell("kubectl apply -f -", stdin=manifest.replace(f"{deployed.IMAGE}:next", image))

    def get(self, kind: str, name: str = NAME) -> Any:
        return self.cluster.get(kind, name, "-n", "phoenix-orch")

    def status(self) -> dict[str, Any]:
        """Of its Rollout; empty where there is none yet."""
        found = self.cluster.get(rollouts.RESOURCE, "-n", "phoenix-orch")["items"]
        own: list[dict[str, Any]] = [
            one.get("status", {}) for one in found if one["metadata"]["name"] == NAME
        ]
        return own[0] if own else {}

    def stable(self) -> str:
        return str(self.status().get("stable", ""))

    def state(self) -> str:
        return str(self.status().get("state"))

    def rests(self) -> bool:
        return self.state() in ("Idle", "Promoted", "RolledBack")

    def image(self, name: str = NAME) -> str:
        return str(self.get("deployment", name)["spec"]["template"]["spec"]["containers"][0]["image"])

    def weight(self) -> str:
        labels: dict[str, str] = self.get("ingress", CANARY)["metadata"]["labels"]
        return labels.get("phoenix-orch.io/weight", "")

    def latch(self) -> str:
        return str(self.get("ingress", CANARY)["metadata"]["annotations"].get("phoenix-orch.io/abort", ""))

    def told(self) -> str:
        pods = self.cluster.kubectl("get", "pods", "-n", "phoenix-orch")
        return f"{json.dumps(self.status(), indent=1)}\n{pods}\n{deployed.logs(self.cluster)}"


def _rollout(bake: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load((CANARY_FILES / "rollout.yaml").read_text("utf-8"))
    evidence = {"interval": "5s", "window": "30s"}
    found["spec"] |= {"phases": PHASES, "evidence": evidence, "policy": {"bake": bake}}
    return found


def _numbers(history: str) -> list[int]:
    """The revisions that `kubectl rollout history` lists."""
    return [int(line.split()[0]) for line in history.splitlines() if line[:1].isdigit()]


@pytest.fixture
def orchestrator(node_cluster: NodeCluster, phoenix_namespace: str) -> Iterator[Orchestrator]:
    """With users, who ask for pages that it has not: those are evidence as well."""
    node_cluster.kubectl("apply", "-f", str(CANARY_FILES / "ingress.yaml"))
    with Users(node_cluster.web_port, RATE, host=HOST):
        yield Orchestrator(node_cluster)


@pytest.mark.timeout(1500)
def test_usage_and_a_manual_rollback_afterwards(orchestrator: Orchestrator, tmp_path: Path) -> None:
    shell, told, now = orchestrator.shell, orchestrator.told, f"{deployed.IMAGE}:after-now"
    orchestrator.ready(now, bake="10s")
    assert TRAFFIC_CONTROL in (CANARY_FILES / "traffic-control.yaml").read_text("utf-8")
    shell("kubectl apply -f k8s/canary/traffic-control.yaml")
    before = _numbers(shell(HISTORY))

    following = shell.begin(LOGS, tmp_path / "log")
    shell(APPLY)
    until("the canary has its share", lambda: orchestrator.weight() == "5", PATIENCE, told)
    annotations = orchestrator.get("ingress", CANARY)["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/canary-weight"] == "5"
    shown = Shell(orchestrator.cluster.kubeconfig, KUBERC=str(KUBERC))(INGRESSES).splitlines()
    assert shown[0].split()[-1] == "WEIGHT"
    assert [line.split()[-1] for line in shown if line.startswith(CANARY)] == ["5"]
    assert _numbers(shell(HISTORY)) == before
    assert "successfully rolled out" in shell(STATUS)

    until("it is released", lambda: orchestrator.state() == "Promoted", PATIENCE, told)
    assert orchestrator.image() == f"{deployed.IMAGE}:next"
    assert "successfully rolled out" in shell(STATUS)
    history = shell(HISTORY)
    assert f"phoenix rollout {NAME}: {deployed.IMAGE}:next" in history
    assert _numbers(history) == [*before, before[-1] + 1]
    following.terminate()
    following.wait(30)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text("utf-8").splitlines()]
    verdicts = [line for line in lines if line["event"] == "verdict"]
    assert {"time", "level", "rollout", "revision", "step", "kind", "reason"} <= set(verdicts[-1])
    assert "advance" in {line["kind"] for line in verdicts}

    promoted = orchestrator.stable()
    shell(UNDO)
    assert "successfully rolled out" in shell(STATUS)
    assert orchestrator.image() == now
    until("Phoenix knows it", lambda: orchestrator.stable() != promoted, PATIENCE, told)
    assert orchestrator.rests()
    assert orchestrator.weight() == "0"
    assert orchestrator.get("deployment", CANARY)["spec"]["replicas"] == 0


@pytest.mark.timeout(1500)
def test_undo_during_a_release_is_an_abort(orchestrator: Orchestrator) -> None:
    """Stable had run something else before, and runs that again afterwards: as it was made."""
    shell, told = orchestrator.shell, orchestrator.told
    earlier = orchestrator.image()
    orchestrator.ready(f"{deployed.IMAGE}:during-now", bake="10s")
    orchestrator.release(f"{deployed.IMAGE}:during-next")
    until("the canary has its share", lambda: orchestrator.weight() == "5", PATIENCE, told)
    canary = orchestrator.status()["canary"]
    shell(UNDO)
    until("it is taken back", lambda: orchestrator.latch() == canary, PATIENCE, told)
    assert orchestrator.weight() == "0"
    until("the release has ended", lambda: orchestrator.state() == "RolledBack", PATIENCE, told)
    assert "successfully rolled out" in shell(STATUS)
    assert orchestrator.image() == earlier
    assert orchestrator.status()["cause"]["trigger"] == "person"


@pytest.mark.timeout(1500)
def test_undo_during_the_bake_takes_the_promoted_version_back(orchestrator: Orchestrator) -> None:
    shell, told, now = orchestrator.shell, orchestrator.told, f"{deployed.IMAGE}:bake-now"
    orchestrator.ready(now, bake="1h")
    orchestrator.release(f"{deployed.IMAGE}:bake-next")
    until("it bakes", lambda: orchestrator.state() == "Baking", PATIENCE, told)
    promoted = orchestrator.stable()
    assert orchestrator.image() == f"{deployed.IMAGE}:bake-next"
    shell(UNDO)
    assert "successfully rolled out" in shell(STATUS)
    assert orchestrator.image() == now
    until("it is taken back", lambda: orchestrator.state() == "RolledBack", PATIENCE, told)
    assert orchestrator.latch() == promoted
    assert orchestrator.status()["cause"]["trigger"] == "person"


def test_the_weight_is_a_column_for_who_prefers_it(cluster: Cluster, namespace: str) -> None:
    """kubectl's columns of an Ingress are fixed; a label is shown where a person says so once."""
    canary = shop.ingress(namespace, "shop-canary", host="shop.example", weight=5)
    canary["metadata"]["labels"] = {"phoenix-orch.io/weight": "5"}
    cluster.apply(canary)
    verbatim = INGRESSES.replace("phoenix-orch", namespace)
    _, plain = Shell(cluster.kubeconfig)(verbatim).splitlines()
    assert "5" not in plain.split()
    heading, line = Shell(cluster.kubeconfig, KUBERC=str(KUBERC))(verbatim).splitlines()
    assert (heading.split()[-1], line.split()[-1]) == ("WEIGHT", "5")

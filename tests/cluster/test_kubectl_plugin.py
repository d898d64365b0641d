"""`kubectl phoenix …` by the real kubectl, which finds it on the PATH and asks it to complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cluster import programs, rollouts
from tests.cluster.kubectl import Cluster

_PROGRAMS = Path(sys.executable).parent
"""Where the wheel puts its programs."""


class Kubectl:
    """kubectl as a person calls it, with a kubeconfig in the environment."""

    def __init__(self, kubeconfig: Path) -> None:
        self._environment = {
            **os.environ,
            "PATH": f"{_PROGRAMS}:{os.environ['PATH']}",
            "KUBECONFIG": str(kubeconfig),
        }

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(programs.kubectl()), *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def kubectl(cluster: Cluster, namespace: str) -> Kubectl:
    rollouts.define(cluster)
    cluster.apply(
        *(
            rollouts.manifest({"workload": {"name": name}, "traffic": {"ingress": name}}, name, namespace)
            for name in ("shop", "shelf", "bank")
        )
    )
    return Kubectl(cluster.kubeconfig)


def test_kubectl_finds_it(kubectl: Kubectl) -> None:
    found = kubectl("plugin", "list")
    assert f"{_PROGRAMS}/kubectl-phoenix" in found.stdout.split()
    assert kubectl("phoenix", "version").stdout.startswith("phoenix ")


def test_it_works_in_the_cluster_of_the_kubeconfig(kubectl: Kubectl, namespace: str) -> None:
    shown = kubectl("phoenix", "rollout", "status", "shop", "-n", namespace, "-o", "json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["rollout"]["name"] == "shop"


def test_its_exit_status_and_its_words_reach_the_shell(kubectl: Kubectl, namespace: str) -> None:
    refused = kubectl("phoenix", "rollout", "abort", "shop", "-n", namespace)
    assert refused.returncode == 2
    assert "error: cannot abort shop" in refused.stderr
    missing = kubectl("phoenix", "rollout", "status", "nobody", "-n", namespace)
    assert "there is no Rollout 'nobody'" in missing.stderr


def test_tab_offers_the_rollouts_of_the_namespace(kubectl: Kubectl, namespace: str) -> None:
    """As the completion scripts of kubectl ask: `kubectl __complete` and the words so far."""
    there = ("__complete", "phoenix", "rollout", "status", "-n", namespace)
    assert kubectl(*there, "sh").stdout.splitlines() == ["shelf", "shop", ":4"]
    assert kubectl(*there, "").stdout.splitlines() == ["bank", "shelf", "shop", ":4"]
    assert kubectl("__complete", "phoenix", "rollout", "ab").stdout.startswith("abort\t")

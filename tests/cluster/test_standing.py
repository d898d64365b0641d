"""A canary of Phoenix beside Phoenix: it is ready, and never leads."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from tests.cluster import rollouts, serving
from tests.cluster.kubectl import Cluster
from tests.cluster.serving import ACCOUNTS, Component, until
from tests.cluster.stand import PATIENCE

COMPONENT = "orchestrator"
LEASE = ACCOUNTS[COMPONENT]


def logged(process: Component, event: str) -> dict[str, object]:
    """The first line with this event; empty: there is none yet."""
    return next((line for line in process.lines() if line["event"] == event), {})


def holder(cluster: Cluster, namespace: str) -> str:
    found = cluster.get("lease", LEASE, "-n", namespace)
    return str(found.get("spec", {}).get("holderIdentity", ""))


@pytest.mark.timeout(600)
def test_a_canary_is_ready_and_leaves_the_lease_alone(
    cluster: Cluster, namespace: str, log_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollouts.define(cluster)
    cluster.apply(*serving.rights(namespace))
    account = cluster.service_account(namespace, LEASE)
    words = ["--kubernetes", f"--namespace={namespace}", f"--store={log_store}", f"--kubeconfig={account}"]
    words += ["--probes=127.0.0.1:0"]
    monkeypatch.setenv("PHOENIX_APP", f"{LEASE}-canary")
    canary = Component(COMPONENT, words, tmp_path)
    canary.start()
    try:
        stands_back = "does not stand for election"
        until("it has decided", lambda: bool(logged(canary, stands_back)), PATIENCE, canary.tail)
        port = logged(canary, "answers /livez and /readyz")["port"]
        assert httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
        assert holder(cluster, namespace) == ""
    finally:
        status = canary.end()
    assert status == 0
    monkeypatch.setenv("PHOENIX_APP", LEASE)
    stable = Component(COMPONENT, words, tmp_path)
    stable.start()
    try:
        until("it leads", lambda: holder(cluster, namespace) != "", PATIENCE, stable.tail)
    finally:
        assert stable.end() == 0

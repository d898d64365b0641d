"""Phoenix is taken away in the middle of a release: stable stays, with all traffic."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster import rollouts
from tests.cluster.plane import ControlPlane
from tests.cluster.serving import Phoenix, until
from tests.cluster.stand import NAME, PATIENCE, Stand, orchestrated
from tests.cluster.test_manifests import BASE, NAMESPACE

from phoenix_orch.runtime.valkey_server import ValkeyServer


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    keeper = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    yield asyncio.run(keeper.ensure()).url
    asyncio.run(keeper.stop())


def at_twenty_per_cent(stand: Stand, phoenix: Phoenix) -> None:
    stand.until_state("Idle", phoenix)
    stand.release()
    stand.until_state("Progressing", phoenix)
    until("its share is written", lambda: stand.weight() == "20", PATIENCE, phoenix.tails)


def known_to_the_collector(cluster: ControlPlane) -> None:
    """Wait until the garbage collector has heard of Rollouts.

    It asks every 30 s which kinds there are. What became of an owner before that it never learns.
    """
    owner = {"apiVersion": "phoenix-orch.io/v1alpha1", "kind": "Rollout", "name": "never", "uid": "never"}
    metadata = {"name": "orphan", "namespace": NAMESPACE, "ownerReferences": [owner]}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})

    def names() -> set[str]:
        found = cluster.get("configmaps", "-n", NAMESPACE)["items"]
        return {one["metadata"]["name"] for one in found}

    until("what has no owner goes", lambda: "orphan" not in names(), PATIENCE, lambda: str(names()))


@pytest.mark.timeout(1500)
def test_without_phoenix_a_canary_ingress_goes_with_the_definition_and_nothing_else_does(
    control_plane: ControlPlane, store: str, tmp_path: Path
) -> None:
    """All of Phoenix is dead by then: what is left to act is the cluster's garbage collection."""
    control_plane.kubectl("create", "namespace", NAMESPACE)
    control_plane.kubectl("apply", "--server-side", "-k", BASE)
    rollouts.established(control_plane)
    known_to_the_collector(control_plane)
    stand = Stand(control_plane, NAMESPACE)
    stand.set_up()
    with orchestrated(stand, tmp_path, store) as phoenix:
        at_twenty_per_cent(stand, phoenix)
        phoenix["orchestrator"].end(signal.SIGKILL)
        control_plane.kubectl("delete", "-k", BASE, timeout=PATIENCE)
        until("the canary's Ingress goes", lambda: stand.names("ingress") == {NAME}, PATIENCE, phoenix.tails)
    assert control_plane.get("namespace", NAMESPACE)["status"]["phase"] == "Active"
    assert stand.names("deployment") == {NAME, f"{NAME}-canary"}
    assert (stand.image(), stand.replicas(NAME)) == ("shop:1", 2)
    assert {NAME, f"{NAME}-canary"} <= stand.names("service")
    assert "phoenix-orch.io" not in control_plane.kubectl("get", "crd", "-o", "name")


@pytest.mark.timeout(1500)
def test_who_leads_next_clears_up_after_a_rollout_that_nobody_saw_go(
    control_plane: ControlPlane, store: str, tmp_path: Path
) -> None:
    stand = Stand(control_plane, "default")
    stand.set_up()
    with orchestrated(stand, tmp_path, store) as phoenix:
        at_twenty_per_cent(stand, phoenix)
        phoenix["orchestrator"].end(signal.SIGKILL)
        control_plane.kubectl("delete", rollouts.RESOURCE, NAME, "-n", "default")
        phoenix["orchestrator"].start()

        def cleared() -> bool:
            marks = stand.get("deployment")["metadata"].get("annotations", {})
            claimed = any(mark.startswith("phoenix-orch.io/") for mark in marks)
            return not claimed and f"{NAME}-canary" not in stand.names("service")

        until("nothing of Phoenix is left", cleared, PATIENCE, phoenix.tails)
    assert stand.names("ingress") == {NAME}
    assert (stand.image(), stand.replicas(NAME)) == ("shop:1", 2)

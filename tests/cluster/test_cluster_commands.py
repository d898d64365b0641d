"""`phoenix … --kubernetes` from the beginning of a release to its end, past an API that does not exist."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.kubectl import Cluster
from tests.cluster.serving import Phoenix, until
from tests.cluster.stand import NAME, PATIENCE, Stand, orchestrated

from phoenix_orch.runtime.valkey_server import ValkeyServer


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    keeper = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    yield asyncio.run(keeper.ensure()).url
    asyncio.run(keeper.stop())


@pytest.fixture
def stand(cluster: Cluster, namespace: str) -> Stand:
    made = Stand(cluster, namespace)
    made.set_up()
    return made


@pytest.fixture
def phoenix(stand: Stand, store: str, tmp_path: Path) -> Iterator[Phoenix]:
    with orchestrated(stand, tmp_path, store) as processes:
        yield processes


@pytest.mark.timeout(1500)
def test_an_image_is_released_from_stable_and_gone_back_to(
    stand: Stand, phoenix: Phoenix, store: str
) -> None:
    log = f"--store={store}"
    stand.until_state("Idle", phoenix)
    assert "would be the same as what is stable" in stand.phoenix(
        "rollout", "start", NAME, "--image", "shop:1", status=2
    )
    would = stand.phoenix("rollout", "start", NAME, "--image", "shop:2", "--dry-run")
    assert "WOULD CHANGE" in would
    assert stand.names("deployment") == {NAME}
    stand.phoenix("rollout", "start", NAME, "--image", f"{NAME}=shop:2", "--reason", "the new shop")
    made = stand.get("deployment", f"{NAME}-canary")
    assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "phoenix-orchestrator"
    assert "the new shop" in made["metadata"]["annotations"]["kubernetes.io/change-cause"]
    stand.until_state("Progressing", phoenix)
    until("its share is written", lambda: stand.weight() == "20", PATIENCE, phoenix.tails)
    listed = json.loads(stand.phoenix("get", "rollouts", "--output=json"))
    assert [one["rollout"]["status"]["state"] for one in listed] == ["Progressing"]
    stand.phoenix("rollout", "promote", NAME, "--full", "--reason", "it is fine")
    assert "Promoted" in stand.phoenix("rollout", "watch", NAME, log)
    assert stand.image() == "shop:2"
    # what happened is in the log; without one that is said
    told = stand.phoenix("rollout", "history", NAME, log)
    assert "shop:2" in told
    assert "promoted" in told
    assert "PHOENIX_STORE" in stand.phoenix("rollout", "history", NAME, status=2)
    assert "it is fine" in stand.phoenix("get", "events", NAME, log)
    assert "No verdict" in stand.phoenix("rollout", "explain", NAME)
    described = stand.phoenix("describe", "rollout", NAME, log)
    assert "the first" in described
    assert "shop:2" in described
    kept = json.loads(stand.phoenix("get", "revisions", NAME, "--output=json"))
    assert [(one["number"], one["version"]) for one in kept] == [(1, "shop:1"), (2, "shop:2")]
    # back, as kubectl would
    assert "shop:1" in stand.phoenix("rollout", "undo", NAME)
    assert stand.image() == "shop:1"
    until(
        "Phoenix takes it for stable",
        lambda: stand.status()["stable"] == kept[0]["revision"],
        PATIENCE,
        phoenix.tails,
    )


@pytest.mark.timeout(1500)
def test_what_was_aborted_is_not_started_again_and_a_canary_of_ones_own_gets_the_image(
    stand: Stand, phoenix: Phoenix
) -> None:
    stand.until_state("Idle", phoenix)
    stand.release("shop:2")
    until("its share is written", lambda: "Progressing" in stand.state(), PATIENCE, phoenix.tails)
    until("its share is written", lambda: stand.weight() == "20", PATIENCE, phoenix.tails)
    assert "aborted" in stand.phoenix("rollout", "undo", NAME, "--reason", "not today")
    stand.until_state("RolledBack", phoenix)
    assert "RolledBack" in stand.phoenix("rollout", "status", NAME, "--wait", status=4)
    refused = stand.phoenix("rollout", "start", NAME, "--image", "shop:2", status=2)
    assert "is latched" in refused
    assert "taken back already" in stand.phoenix("rollout", "undo", NAME, status=2)
    stand.phoenix("rollout", "start", NAME, "--image", "shop:3")
    assert stand.image(f"{NAME}-canary") == "shop:3"
    assert "app.kubernetes.io/managed-by" not in stand.get("deployment", f"{NAME}-canary")["metadata"].get(
        "labels", {}
    )
    stand.until_state("Progressing", phoenix)

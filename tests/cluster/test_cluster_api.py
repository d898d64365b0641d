"""The API of the orchestrator's replicas in a cluster, called by people whom the cluster's rules let in."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster import serving
from tests.cluster.plane import ControlPlane
from tests.cluster.replicas import Replicas, a_store, replicas
from tests.cluster.stand import NAME

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture
def world(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Replicas]:
    with a_store(tmp_path / "valkey") as store, replicas(control_plane, tmp_path, store) as made:
        yield made


def test_a_release_by_the_api_of_any_replica(world: Replicas) -> None:
    stand, operator = world.stand, world.tokens["operator"]
    world.until_state("Idle")
    _only_who_may(world)
    world.until("one leads", lambda: any(one.leads(operator) for one in world.replicas))
    leader, other = sorted(world.replicas, key=lambda one: not one.leads(operator))

    # through the one that does not lead, with a token that is good for nothing else
    own = world.token("operator", "--audience", "phoenix-orch.io")
    would = other.call(f"/api/v1/rollouts/{NAME}/start", own, {"version": "shop:2", "dryRun": True})
    assert would.status_code == 200, would.text
    assert stand.names("deployment") == {NAME}
    begun = other.call(f"/api/v1/rollouts/{NAME}/start", own, {"version": "shop:2", "changeCause": "newer"})
    assert begun.status_code == 200, begun.text
    made = stand.get("deployment", f"{NAME}-canary")
    actor = f"system:serviceaccount:{stand.namespace}:operator"
    assert actor in made["metadata"]["annotations"]["kubernetes.io/change-cause"]
    world.until("its share is written", lambda: stand.state() == "Progressing" and stand.weight() == "20")
    assert world.word(other, "pause").status_code == 202
    world.until_state("Paused")
    assert world.word(other, "pause").status_code == 409
    world.until(
        "the replica shows it",
        lambda: (
            other.call(f"/api/v1/rollouts/{NAME}", operator).json()["rollout"]["status"]["state"] == "Paused"
        ),
    )

    # nobody leads: it reads and takes traffic away all the same
    leader.component.end(signal.SIGKILL)
    aborted = world.word(other, "abort", "enough")
    assert aborted.status_code == 202, aborted.text
    assert stand.weight() == "0"
    assert aborted.json()["actor"] == actor
    world.until_state("RolledBack")  # the other one leads by now
    undone = other.call(f"/api/v1/rollouts/{NAME}/undo", operator, {})
    assert undone.status_code == 409
    assert "taken back already" in undone.json()["detail"]

    # again, to its end, and back
    assert world.word(other, "retry").status_code == 202
    world.until("it is released again", lambda: stand.state() == "Progressing" and stand.weight() == "20")
    assert world.word(other, "promote-full").status_code == 202
    world.until_state("Promoted")
    assert stand.image() == "shop:2"
    assert other.call(f"/api/v1/rollouts/{NAME}/undo", operator, {}).status_code == 200
    assert stand.image() == "shop:1"
    denied = serving.refused(world.stand.cluster, stand.namespace)  # type: ignore[arg-type]
    assert denied == []


def _only_who_may(world: Replicas) -> None:
    path = f"/api/v1/rollouts/{NAME}"
    for replica in world.replicas:
        statuses = {name: replica.call(path, token).status_code for name, token in world.tokens.items()}
        assert statuses == {"viewer": 200, "operator": 200, "admin": 200, "stranger": 403}
        assert replica.call(path, "").status_code == 401
        assert replica.call(path, "made-up").status_code == 401
        assert replica.call(path, world.tokens["operator"], scheme="Basic").status_code == 401
        pause = {"kind": "pause"}
        assert replica.call(f"{path}/commands", world.tokens["viewer"], pause).status_code == 403
    assert world.stand.state() == "Idle"

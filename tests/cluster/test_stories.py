"""Whole releases with real pods and a real router: Phoenix's processes on the API server, from outside.

A good version is promoted in place and nobody notices; one that answers badly is taken back, stays latched,
and stable is never touched.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from tests.cluster import serving
from tests.cluster.node.images import SHOP
from tests.cluster.serving import Phoenix, until
from tests.cluster.stage import (
    CANARY,
    INGRESS,
    NAME,
    RATE,
    REPLICAS,
    ROUTE,
    START_SECONDS,
    StableWatch,
    Stage,
)
from tests.faults.story_users import Users

SLOW = {
    "phases": [
        {
            "name": "initial",
            "weight": 20,
            "duration": "1m",
            "limits": {"errorRate": "1%", "latencyP95": "300ms"},
        },
        {"name": "full", "step": 80, "every": "1m", "limits": {"errorRate": "1%", "latencyP95": "300ms"}},
    ],
    "policy": {"bake": "10s", "statistical": {"warmUp": "5s"}},
}
"""The limit is an edge of Traefik's histogram."""


def telling(stage: Stage, phoenix: Phoenix) -> Callable[[], str]:
    return lambda: f"{stage.describe()}\n{phoenix.tails()}"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", [INGRESS, ROUTE], indirect=True)
def test_a_good_version_is_promoted_in_place_and_nobody_notices(stage: Stage, phoenix: Phoenix) -> None:
    told = telling(stage, phoenix)
    until("Phoenix knows it", lambda: stage.state() == "Idle", START_SECONDS, told)
    with (
        StableWatch(stage) as stable,
        Users(stage.cluster.web_port, RATE, host=stage.host) as users,
    ):
        stage.release("v2")
        until("it is released", lambda: stage.state() == "Promoted", 300, told)
        until("the canary is gone", lambda: stage.replicas(CANARY) == 0, 30, told)
    assert users.account.failures == []
    assert {"v1", "v2"} <= set(users.account.by_version)
    assert stage.images() == [f"{SHOP}:v2"]
    assert stable.fewest() == (REPLICAS, REPLICAS)
    assert stage.weight() == "0"
    if stage.router == INGRESS:
        assert stage.carrier()["annotations"]["nginx.ingress.kubernetes.io/canary-weight"] == "0"
    history = stage.cluster.kubectl("rollout", "history", f"deployment/{NAME}", "-n", stage.namespace)
    assert f"phoenix rollout {NAME}: {SHOP}:v2" in history
    stage.cluster.rolled_out(stage.namespace, NAME)
    verdicts = [line for line in phoenix["health-validator"].lines() if line["event"] == "verdict"]
    assert {"time", "level", "rollout", "revision", "step", "kind", "reason"} <= set(verdicts[0])
    assert "advance" in {line["kind"] for line in verdicts}
    assert serving.refused(stage.cluster, stage.namespace) == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", [INGRESS, ROUTE], indirect=True)
def test_a_version_that_fails_requests_is_taken_back_and_stable_is_never_touched(
    stage: Stage, phoenix: Phoenix
) -> None:
    told = telling(stage, phoenix)
    until("Phoenix knows it", lambda: stage.state() == "Idle", START_SECONDS, told)
    before = stage.get("deployment")["spec"]
    with (
        StableWatch(stage) as stable,
        Users(stage.cluster.web_port, RATE, host=stage.host) as users,
    ):
        stage.release("bad-errors")
        until("it is taken back", lambda: stage.state() == "RolledBack", 300, told)
    assert {failure.version for failure in users.account.failures} == {"bad-errors"}
    assert stage.failures().keys() == {CANARY}
    assert stage.get("deployment")["spec"] == before
    assert stable.fewest() == (REPLICAS, REPLICAS)
    assert stage.replicas(CANARY) == 0
    assert stage.weight() == "0"
    status = stage.status()
    assert status["cause"]["trigger"] == "verdict"
    assert stage.carrier()["annotations"]["phoenix-orch.io/abort"] == status["cause"]["revision"]
    # R4: asking again for the same brings nothing back
    stage.cluster.kubectl("scale", f"deployment/{CANARY}", "--replicas=1", "-n", stage.namespace)
    until("it is sent away again", lambda: stage.replicas(CANARY) == 0, 60, told)
    assert stage.state() == "RolledBack"
    assert stage.weight() == "0"
    assert serving.refused(stage.cluster, stage.namespace) == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", [ROUTE], indirect=True)
def test_a_version_with_a_long_tail_is_taken_back_for_its_latency(stage: Stage, phoenix: Phoenix) -> None:
    """Nearly a third of its requests are slow; none of them fails."""
    told = telling(stage, phoenix)
    stage.judge_by(**SLOW)
    until("Phoenix knows it", lambda: stage.state() == "Idle", START_SECONDS, told)
    with (
        StableWatch(stage) as stable,
        Users(stage.cluster.web_port, RATE, host=stage.host) as users,
    ):
        stage.release("slow")
        until("it is taken back", lambda: stage.state() == "RolledBack", 300, told)
    cause = stage.status()["cause"]
    assert cause["trigger"] == "verdict"
    assert "p95" in cause["reason"]
    assert users.account.failures == []
    assert users.account.by_version["slow"] > 0
    assert stable.fewest() == (REPLICAS, REPLICAS)
    assert (stage.weight(), stage.images()) == ("0", [f"{SHOP}:v1"])


@pytest.mark.timeout(900)
def test_a_persons_abort_needs_nothing_of_phoenix(stage: Stage, phoenix: Phoenix) -> None:
    """All three processes are dead, and the command is told of no store and no Prometheus."""
    told = telling(stage, phoenix)
    until("Phoenix knows it", lambda: stage.state() == "Idle", START_SECONDS, told)
    with Users(stage.cluster.web_port, RATE, host=stage.host) as users:
        stage.release("v2")
        until("users get it", lambda: users.account.by_version.get("v2", 0) > 0, 120, told)
        for component in serving.COMPONENTS:
            phoenix[component].end(signal.SIGKILL)
        said = stage.phoenix("rollout", "abort", NAME, "--reason", "the shop is empty")
        assert "is latched with weight 0" in said
        assert stage.weight() == "0"
        assert stage.carrier()["annotations"]["phoenix-orch.io/abort"]
        phoenix["orchestrator"].start()
        until("Phoenix ends it", lambda: stage.state() == "RolledBack", 120, told)
    assert users.account.failures == []
    cause = stage.status()["cause"]
    assert cause["trigger"] == "person"
    assert "the shop is empty" in cause["reason"]
    assert "RolledBack" in stage.phoenix("rollout", "status", NAME, status=4)
    assert stage.images() == [f"{SHOP}:v1"]

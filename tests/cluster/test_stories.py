"""Whole releases with real pods and a real router: Phoenix's processes on the API server, from outside.

A good version is promoted in place and nobody notices; one that answers badly is taken back, stays latched,
and stable is never touched.
"""

from __future__ import annotations

import signal

import pytest
from tests.cluster import serving, story
from tests.cluster.node.images import SHOP
from tests.cluster.serving import Phoenix
from tests.cluster.stage import CANARY, INGRESS, NAME, ROUTE, Stage

pytestmark = pytest.mark.timeout(900)

BOTH = pytest.mark.parametrize("stage", [INGRESS, ROUTE], indirect=True)
LIMITS = {"errorRate": "1%", "latencyP95": "300ms"}
"""The second is an edge of Traefik's histogram."""
SLOW = {
    "phases": [
        {"name": "initial", "weight": 20, "duration": "1m", "limits": LIMITS},
        {"name": "full", "step": 80, "every": "1m", "limits": LIMITS},
    ],
    "policy": {"bake": "10s", "statistical": {"warmUp": "5s"}},
}


@BOTH
def test_a_good_version_is_promoted_in_place_and_nobody_notices(stage: Stage, phoenix: Phoenix) -> None:
    with story.told(stage, phoenix) as told:
        stage.release("v2")
        told.until("it is released", lambda: stage.state() == "Promoted", 300)
        told.until("the canary is gone", lambda: stage.replicas(CANARY) == 0, 30)
    assert told.account.failures == []
    assert {"v1", "v2"} <= set(told.account.by_version)
    assert stage.images() == [f"{SHOP}:v2"]
    assert stage.weight() == "0"
    if stage.kind == INGRESS:
        assert stage.carrier()["annotations"]["nginx.ingress.kubernetes.io/canary-weight"] == "0"
    history = stage.cluster.kubectl("rollout", "history", f"deployment/{NAME}", "-n", stage.namespace)
    assert f"phoenix rollout {NAME}: {SHOP}:v2" in history
    stage.cluster.rolled_out(stage.namespace, NAME)
    verdicts = [line for line in phoenix["health-validator"].lines() if line["event"] == "verdict"]
    assert {"time", "level", "rollout", "revision", "step", "kind", "reason"} <= set(verdicts[0])
    assert "advance" in {line["kind"] for line in verdicts}
    assert serving.refused(stage.cluster, stage.namespace) == []


@BOTH
def test_a_version_that_fails_requests_is_taken_back_and_stays_away(stage: Stage, phoenix: Phoenix) -> None:
    with story.taken_back(stage, phoenix) as told:
        stage.release("bad-errors")
    assert {failure.version for failure in told.account.failures} == {"bad-errors"}
    assert stage.failures(told.account) == {CANARY: len(told.account.failures)}
    assert stage.status()["cause"]["trigger"] == "verdict"
    # R4: asking again for the same brings nothing back
    stage.cluster.kubectl("scale", f"deployment/{CANARY}", "--replicas=1", "-n", stage.namespace)
    told.until("it is sent away again", lambda: stage.replicas(CANARY) == 0, 60)
    assert stage.state() == "RolledBack"
    assert stage.weight() == "0"
    assert serving.refused(stage.cluster, stage.namespace) == []


@BOTH
def test_a_version_with_a_long_tail_is_taken_back_for_its_latency(stage: Stage, phoenix: Phoenix) -> None:
    """Nearly a third of its requests are slow; none of them fails."""
    stage.judge_by(**SLOW)
    with story.taken_back(stage, phoenix) as told:
        stage.release("slow")
    cause = stage.status()["cause"]
    assert cause["trigger"] == "verdict"
    assert "p95" in cause["reason"]
    assert told.account.failures == []
    assert told.account.by_version["slow"] > 0


@BOTH
def test_a_persons_abort_needs_nothing_of_phoenix(stage: Stage, phoenix: Phoenix) -> None:
    """All three processes are dead, and the command is told of no store and no Prometheus."""
    with story.taken_back(stage, phoenix) as told:
        stage.release("v2")
        told.until_served("v2")
        for component in serving.COMPONENTS:
            phoenix[component].end(signal.SIGKILL)
        said = stage.phoenix("rollout", "abort", NAME, "--reason", "the shop is empty")
        assert "is latched with weight 0" in said
        assert stage.weight() == "0"
        assert stage.carrier()["annotations"]["phoenix-orch.io/abort"]
        phoenix["orchestrator"].start()
    assert told.account.failures == []
    cause = stage.status()["cause"]
    assert cause["trigger"] == "person"
    assert "the shop is empty" in cause["reason"]
    assert "RolledBack" in stage.phoenix("rollout", "status", NAME, status=4)

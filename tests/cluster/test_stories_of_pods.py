"""Whole releases of versions whose pods fail: each is taken back for what happened, and stable serves on.

Real containers crash, exceed their memory, never get ready or cannot be started at all. Evidence of requests
comes once in half a minute here, so that nothing but the pods can be the cause.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.cluster import story
from tests.cluster.node.images import SHOP
from tests.cluster.serving import Phoenix
from tests.cluster.stage import CANARY, INGRESS, ROUTE, Stage

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.parametrize("stage", [INGRESS, ROUTE], indirect=True),
]

SPEC: dict[str, Any] = {
    "phases": [
        {"name": "initial", "weight": 20, "duration": "5m", "limits": {"errorRate": "1%"}},
        {"name": "full", "step": 80, "every": "5m", "limits": {"errorRate": "1%"}},
    ],
    "evidence": {"interval": "30s", "window": "1m"},
    "policy": {"progressDeadline": "2m"},
}


def ended(stage: Stage) -> tuple[str, str]:
    """What has ended the release, and the reason."""
    cause = stage.status()["cause"]
    return cause["trigger"], cause["reason"]


def test_a_version_that_crashes_under_load(stage: Stage, phoenix: Phoenix) -> None:
    stage.judge_by(**SPEC)
    with story.taken_back(stage, phoenix):
        stage.release("crash")
    trigger, reason = ended(stage)
    assert trigger == "crash-loop"
    assert "exit status 1" in reason


def test_a_version_that_crashes_as_it_starts_gets_no_request(stage: Stage, phoenix: Phoenix) -> None:
    """Its settings are wrong: kubelet restarts it until it is in CrashLoopBackOff."""
    stage.judge_by(**SPEC)
    with story.taken_back(stage, phoenix) as told:
        stage.release("v2", environment={"SHOP_FAULT": "nonsense"})
    trigger, reason = ended(stage)
    assert trigger == "crash-loop"
    assert "exit status 2" in reason
    assert told.account.by_version.keys() == {"v1"}


def test_a_version_that_takes_more_memory_than_it_may(stage: Stage, phoenix: Phoenix) -> None:
    stage.judge_by(**SPEC)
    with story.taken_back(stage, phoenix):
        stage.release("leak")
    trigger, reason = ended(stage)
    assert trigger == "memory"
    assert "memory limit" in reason
    assert CANARY in reason


def test_a_version_that_never_gets_ready(stage: Stage, phoenix: Phoenix) -> None:
    stage.judge_by(**SPEC | {"policy": {"progressDeadline": "20s"}})
    with story.taken_back(stage, phoenix) as told:
        stage.release("never-ready")
    trigger, reason = ended(stage)
    assert trigger == "deadline"
    assert "not ready within 20s" in reason
    assert told.account.by_version.keys() == {"v1"}


def test_a_version_whose_image_is_missing(stage: Stage, phoenix: Phoenix) -> None:
    stage.judge_by(**SPEC)
    with story.taken_back(stage, phoenix) as told:
        stage.release("of-next-year")
    trigger, reason = ended(stage)
    assert trigger == "cannot-start"
    assert "ErrImageNeverPull" in reason
    assert f"{SHOP}:of-next-year" in reason
    assert told.account.by_version.keys() == {"v1"}


def test_a_version_whose_program_is_missing(stage: Stage, phoenix: Phoenix) -> None:
    stage.judge_by(**SPEC)
    with story.taken_back(stage, phoenix) as told:
        stage.release("cannot-start")
    trigger, reason = ended(stage)
    assert trigger == "cannot-start"
    assert "/no/such/program" in reason
    assert told.account.by_version.keys() == {"v1"}

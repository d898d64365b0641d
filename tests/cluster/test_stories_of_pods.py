"""Whole releases of versions whose pods fail: each is taken back for what happened, and stable serves on.

Real containers crash, exceed their memory, never get ready or cannot be started at all. Evidence of requests
comes once in half a minute here, so that nothing but the pods can be the cause.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
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

SPEC: dict[str, Any] = {
    "phases": [
        {"name": "initial", "weight": 20, "duration": "5m", "limits": {"errorRate": "1%"}},
        {"name": "full", "step": 80, "every": "5m", "limits": {"errorRate": "1%"}},
    ],
    "evidence": {"interval": "30s", "window": "1m"},
    "policy": {"progressDeadline": "2m"},
}


@dataclass
class Told:
    """How a story ended."""

    trigger: str = ""
    reason: str = ""
    versions: dict[str, int] = field(default_factory=dict)
    """Answers that users had, by version; empty: the router's own."""


@contextmanager
def taken_back(stage: Stage, phoenix: Phoenix) -> Iterator[Told]:
    """What is released in the `with` block is taken back. Stable serves all the while and fails no request,
    and nobody fails one once it is over."""

    def told() -> str:
        return f"{stage.describe()}\n{phoenix.tails()}"

    until("Phoenix knows it", lambda: stage.state() == "Idle", START_SECONDS, told)
    before, story = stage.get("deployment")["spec"], Told()
    with (
        StableWatch(stage) as stable,
        Users(stage.cluster.web_port, RATE, host=stage.host) as users,
    ):
        yield story
        until("it is taken back", lambda: stage.state() == "RolledBack", 400, told)
        over, answers = time.time(), users.account.by_version["v1"]
        until("users go on", lambda: users.account.by_version["v1"] > answers + 2 * RATE, 60, told)
    cause = stage.status()["cause"]
    story.trigger, story.reason = cause["trigger"], cause["reason"]
    story.versions = dict(users.account.by_version)
    assert stable.fewest() == (REPLICAS, REPLICAS)
    assert stage.get("deployment")["spec"] == before
    assert (stage.replicas(CANARY), stage.weight()) == (0, "0")
    # a pod that dies has requests in hand, and for a moment the router asks it or finds nobody in its place
    assert stage.failures().keys() <= {CANARY}
    assert {one.version for one in users.account.failures} <= {""}
    assert users.failures_since(over) == []
    history = stage.cluster.kubectl("rollout", "history", f"deployment/{NAME}", "-n", stage.namespace)
    assert len(history.strip().splitlines()) == 3, history  # a title, a heading, one revision


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", [INGRESS, ROUTE], indirect=True)
def test_a_version_that_crashes_under_load(stage: Stage, phoenix: Phoenix) -> None:
    stage.judge_by(**SPEC)
    with taken_back(stage, phoenix) as story:
        stage.release("crash")
    assert story.trigger == "crash-loop"
    assert "exit status 1" in story.reason


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", [INGRESS], indirect=True)
def test_a_version_that_crashes_as_it_starts_gets_no_request(stage: Stage, phoenix: Phoenix) -> None:
    """Its settings are wrong: kubelet restarts it until it is in CrashLoopBackOff."""
    stage.judge_by(**SPEC)
    with taken_back(stage, phoenix) as story:
        stage.release("v2", environment={"SHOP_FAULT": "nonsense"})
    assert story.trigger == "crash-loop"
    assert "exit status 2" in story.reason
    assert story.versions.keys() == {"v1"}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", [ROUTE], indirect=True)
def test_a_version_that_takes_more_memory_than_it_may(stage: Stage, phoenix: Phoenix) -> None:
    stage.judge_by(**SPEC)
    with taken_back(stage, phoenix) as story:
        stage.release("leak")
    assert story.trigger == "memory"
    assert "memory limit" in story.reason
    assert CANARY in story.reason


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", [INGRESS], indirect=True)
def test_a_version_that_never_gets_ready(stage: Stage, phoenix: Phoenix) -> None:
    stage.judge_by(**SPEC | {"policy": {"progressDeadline": "20s"}})
    with taken_back(stage, phoenix) as story:
        stage.release("never-ready")
    assert story.trigger == "deadline"
    assert "not ready within 20s" in story.reason
    assert story.versions.keys() == {"v1"}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", [ROUTE], indirect=True)
def test_a_version_whose_image_is_missing(stage: Stage, phoenix: Phoenix) -> None:
    stage.judge_by(**SPEC)
    with taken_back(stage, phoenix) as story:
        stage.release("of-next-year")
    assert story.trigger == "cannot-start"
    assert "ErrImageNeverPull" in story.reason
    assert f"{SHOP}:of-next-year" in story.reason
    assert story.versions.keys() == {"v1"}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", [INGRESS], indirect=True)
def test_a_version_whose_program_is_missing(stage: Stage, phoenix: Phoenix) -> None:
    stage.judge_by(**SPEC)
    with taken_back(stage, phoenix) as story:
        stage.release("cannot-start")
    assert story.trigger == "cannot-start"
    assert "/no/such/program" in story.reason
    assert story.versions.keys() == {"v1"}

"""Everything is started anew under load. What the router answers while nobody is there is nobody's fault."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest
from tests.faults.story import NAME, PHASES, Story, story, until
from tests.faults.story_cases import BAD
from tests.faults.test_story_abort import carrying

from phoenix_orch.health_validator.observation import Arm
from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.status import VerifyStep

pytestmark = pytest.mark.timeout(300)

COMMAND = (
    sys.executable,
    "-P",
    "-m",
    "phoenix_orch.demo.service",
    "--port",
    "{port}",
    "--version",
    "{version}",
)
SLOW = ["sh", "-c", 'sleep 1.5; exec "$@"', "service", *COMMAND]
"""Users ask for so long while nobody is there."""
STRICT = [{**phase, "limits": {"errorRate": "1%", "latencyP95": "2s"}} for phase in PHASES]


@pytest.fixture
def running() -> Iterator[Story]:
    with story(settings={"service": {"command": SLOW}, "rollout": {"phases": STRICT}}) as made:
        yield made


def metrics(made: Story) -> VerifyStep:
    """What the verification of the rollback says of the numbers of stable."""

    def found(view: RolloutView) -> bool:
        result = view.rollout.status.verification
        return result is not None and result.kind == "rollback"

    result = made.until_view("a verification", found).rollout.status.verification
    assert result is not None
    return next(step for step in result.steps if step.name == "metrics")


def stable(made: Story) -> list[Arm]:
    """All that was observed of it."""
    return [o.stable for o in made.client.observations(NAME, limit=1000) if o.stable is not None]


@pytest.mark.slow
def test_a_cold_start_is_held_against_nobody(running: Story) -> None:
    version = running.begin()
    carrying(running, 20)
    running.kill(running.phoenix.pid)
    assert running.cli("rollout", "abort", NAME).returncode == 0
    done = running.cli("down")
    assert done.returncode == 0, done.stderr
    begun = time.time()
    running.restart()
    assert running.ending(version) == BAD
    found = metrics(running)
    assert "errors 0" in found.detail if found.ok else found.unknown, found
    alone = [failure for failure in running.users.failures_since(begun) if failure.status]
    assert {failure.status for failure in alone} <= {404, 503}, "by the router itself, and 502 by nobody"
    assert len(alone) > 50, "users asked while nobody was there"

    before = len(stable(running))
    until("stable is observed again", lambda: len(stable(running)) > before)
    assert sum(arm.errors for arm in stable(running)) == 0
    running.begin()  # stable keeps the limits, so a release has a chance

"""A version that hangs: its processes live, and answer nobody any more. Users are given back to the other
one as soon as the health path says so, whatever evidence there is."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest
from tests.faults import outcomes
from tests.faults.story import NAME, Story, story, until
from tests.faults.story_cases import BAD, Outcome

from phoenix_orch.rollout.status import CommandKind, State

pytestmark = pytest.mark.timeout(300)

LIMITS = {"errorRate": "100%", "latencyP95": "1h"}
PHASES = (
    {"name": "first", "weight": 20, "duration": "1h", "limits": LIMITS},
    {"name": "full", "weight": 100, "duration": "30s", "limits": LIMITS},
)
SETTINGS = {
    "rollout": {"phases": PHASES, "evidence": {"interval": "5s", "window": "10m"}},
    "policy": {"bake": "1h"},
    "service": {"health": {"interval": "200ms", "timeout": "1s"}, "drain": "1s"},
}
"""Nothing but the health path can end these releases in time: neither limits nor the end of the bake, nor
that the canary's requests are missed, which takes a whole window."""
TAKEN_BACK = 12.0
"""Seconds: three looks of up to 1.2 s until an instance counts as not ready, and room for a busy machine."""


def hang(made: Story, revision: str | None) -> float:
    """SIGSTOP all instances of a revision; the moment."""
    view = made.view()
    assert view is not None
    assert view.workload is not None
    for instance in view.workload.of(revision or ""):
        os.kill(instance.pid or 0, signal.SIGSTOP)
    return time.time()


def taken_back(made: Story, version: str, phase: str, at: float, obeyed: Callable[[], bool]) -> None:
    until("all traffic is taken back", obeyed, TAKEN_BACK)
    back = time.time()
    until("users are answered again", lambda: made.users.account.last_good > back, 5.0)
    assert made.ending(version) == BAD
    cause = made.release(1)[0].cause
    assert cause is not None
    assert (cause.trigger, cause.actor) == ("unready", "rollback-controller")
    made.until_nobody_is_lost()
    failures = made.users.failures_since(at)
    last = max((failure.at - at for failure in failures), default=0.0)
    outcomes.keep(Outcome("nobody; it hangs", "bad", phase, BAD.state, len(failures), round(last, 1)).line())
    ended, answered = time.time(), made.users.account.answered
    until("200 more answers", lambda: made.users.account.answered > answered + 200)
    assert not made.users.failures_since(ended), "only what waited for the version that hung has failed"


def test_a_new_stable_version_that_hangs_in_the_bake_is_taken_back() -> None:
    with story(settings=SETTINGS) as made:
        version = made.begin()
        made.until_state(State.PROGRESSING)
        made.client.command(NAME, CommandKind.PROMOTE_FULL)
        view = made.until_state(State.BAKING)
        stable = view.rollout.status.stable
        at = hang(made, stable)
        taken_back(made, version, "Baking", at, lambda: made.seen().stable_revision not in (None, stable))


@pytest.mark.slow
def test_a_canary_that_hangs_is_taken_back() -> None:
    with story(settings=SETTINGS) as made:
        version = made.begin()
        view = made.until_view("20 % seen", lambda view: view.seen is not None and view.seen.weight == 20)
        at = hang(made, view.rollout.status.canary)
        taken_back(
            made, version, "step 1", at, lambda: made.seen().weight == 0 and bool(made.traffic().aborted)
        )

"""A version whose health path is fine and that lets its users wait until they give up. No limit of latency
is set, so nothing but the lack of answers speaks against it."""

from __future__ import annotations

import pytest
from tests.faults.story import NAME, Story, story
from tests.faults.story_cases import BAD, GOOD

from phoenix_orch.rollout.status import State

pytestmark = pytest.mark.timeout(300)

PATIENCE = 0.3
"""Seconds that users wait; far below any limit."""
LIMITS = {"errorRate": "60%"}


def walk(*weights: int, hold: str = "30m") -> dict[str, object]:
    phases = [
        {"name": f"at-{weight}", "weight": weight, "duration": "30s", "limits": LIMITS} for weight in weights
    ]
    return {
        "rollout": {"phases": phases},
        "policy": {"bake": "30s", "holdTimeout": hold, "progressDeadline": "30m"},
    }


def given_up(made: Story) -> str:
    """What took the release back, in words."""
    cause = made.release(1)[0].cause
    assert cause is not None
    assert cause.trigger in ("verdict", "no-data")
    return cause.reason


@pytest.mark.parametrize(
    ("fault", "weights"),
    [
        pytest.param("hang:1", (20, 100), id="all"),
        pytest.param("hang:0.5", (20, 100), id="half", marks=pytest.mark.slow),
    ],
)
def test_a_canary_that_lets_users_wait_is_taken_back(fault: str, weights: tuple[int, ...]) -> None:
    with story(settings=walk(*weights), patience=PATIENCE) as made:
        version = made.begin(fault)
        assert made.ending(version) == BAD
        assert "gave up" in given_up(made)
        explained = made.cli("rollout", "explain", NAME).stdout
        assert "gave up on" in explained
        assert "abandonment rate" in explained


@pytest.mark.slow
def test_without_stable_beside_it_a_version_that_answers_nobody_is_held_and_not_promoted() -> None:
    with story(settings=walk(100, hold="2m"), patience=PATIENCE) as made:
        version = made.begin("hang:1")
        view = made.until_view(
            "it is held",
            lambda view: (
                view.rollout.status.hold_since is not None or view.rollout.status.state is State.BAKING
            ),
        )
        assert view.rollout.status.state is State.PROGRESSING
        assert made.ending(version) == BAD
        assert "gave up" in given_up(made)


def test_users_in_a_hurry_do_no_harm_to_a_good_version() -> None:
    with story(settings=walk(20, 100), patience=PATIENCE) as made:
        assert made.ending(made.begin()) == GOOD

"""Stable released against itself."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from tests.unit import recorded

from phoenix_orch.health_validator.calibrate import calibrate, wilson
from phoenix_orch.health_validator.resting import past
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.rollout.spec import Policy

LITERAL = recorded.SPEC.model_copy(update={"policy": Policy(gate="literal")})


def stable(hours: float = 1, failing: float = 0.0, seed: int = 1, rps: float = 20):
    record = recorded.release(walk=((0, timedelta(hours=hours)),), stable_failing=failing, seed=seed, rps=rps)
    return past(record.observations)


def test_what_is_fine_is_promoted_again_and_again():
    told: list[int] = []
    found = calibrate(recorded.SPEC, stable(), runs=10, seed=3, told=told.append)
    assert found.runs == 10
    assert found.rolled_back == 0
    assert found.promoted + found.undecided == 10
    assert (found.lower, round(found.upper, 3)) == (0.0, 0.278)
    assert found.windows in (30, 31)
    assert told == list(range(1, 11))
    assert calibrate(recorded.SPEC, stable(), runs=10, seed=3) == found


def test_a_point_rule_takes_back_what_is_fine():
    found = calibrate(LITERAL, stable(failing=0.008, rps=10), runs=12, seed=3)
    assert found.rolled_back >= 6
    assert found.blamed[0].metric == "errorRate"
    assert found.blamed[0].rate == found.blamed[0].runs / 12
    assert sum(found.phases.values()) == found.rolled_back
    assert found.lower < found.rate <= found.upper


def test_bursts_are_measured():
    dice = random.Random(4)

    def bursty(observation):
        errors = 60 if dice.random() < 0.08 else 0
        return observation.model_copy(
            update={"stable": observation.stable.model_copy(update={"errors": errors})}
        )

    calm = calibrate(LITERAL, stable(failing=0.02), runs=1, seed=1)
    wild = calibrate(LITERAL, [bursty(o) for o in stable()], runs=1, seed=1)
    assert calm.dispersion is not None
    assert wild.dispersion is not None
    assert calm.dispersion < 2
    assert wild.dispersion > 8


def test_a_past_that_is_shorter_than_the_walk_is_gone_through_again():
    found = calibrate(recorded.SPEC, stable(hours=0.05, rps=100), runs=3, seed=1)
    assert found.promoted == 3
    assert found.rounds == 2.0
    assert found.windows == 0


def test_too_little_past_is_refused():
    with pytest.raises(Invalid, match="too few"):
        calibrate(recorded.SPEC, stable(hours=0.02), runs=3, seed=1)


def test_intervals_of_a_share():
    assert wilson(0, 100) == (0.0, pytest.approx(0.037, abs=1e-3))
    assert wilson(50, 100) == (pytest.approx(0.404, abs=1e-3), pytest.approx(0.596, abs=1e-3))

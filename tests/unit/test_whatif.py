"""Recorded releases under another policy: what it would have done, and what cannot be said."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit import recorded

from phoenix_orch.health_validator import whatif
from phoenix_orch.health_validator.whatif import Ending
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.rollout.spec import Limits, Phase, Policy, RolloutSpec

LITERAL = recorded.SPEC.model_copy(update={"policy": Policy(gate="literal")})


def test_a_healthy_release_is_promoted_and_every_step_says_when_it_was_ready():
    found = whatif.summary(recorded.release(), LITERAL, "own")
    assert found.outcome is Ending.PROMOTED
    assert [step.phase for step in found.steps] == ["initial", "full"]
    for step in found.steps:
        assert step.ready_after is not None
        assert timedelta(minutes=3) <= step.ready_after <= timedelta(minutes=3, seconds=20)
        assert step.lasted == timedelta(minutes=3, seconds=30)
    assert found.after == timedelta(minutes=6, seconds=40)
    assert found.requests == sum(o.canary.requests for o in recorded.release().observations[:40])


def test_a_failing_release_is_taken_back_with_what_it_cost():
    record = recorded.release(failing=0.2, fails_from=timedelta(minutes=1))
    found = whatif.summary(record, LITERAL, "own")
    assert found.outcome is Ending.ROLLED_BACK
    assert found.blame == ("errorRate",)
    assert (found.weight, found.phase) == (10, "initial")
    assert found.after is not None
    assert timedelta(minutes=1) < found.after < timedelta(minutes=2)
    until = [o for o in record.observations if o.t1 <= record.observations[0].t0 + found.after]
    assert found.requests == sum(o.canary.requests for o in until)
    assert found.failed == sum(o.canary.errors for o in until) > 0


def test_a_record_that_went_on_too_early_is_said_to():
    longer = LITERAL.model_copy(
        update={
            "phases": tuple(
                phase.model_copy(update={"duration": timedelta(minutes=5)}) for phase in LITERAL.phases
            )
        }
    )
    found = whatif.summary(recorded.release(), longer, "longer")
    assert found.outcome is Ending.WAITS
    assert found.steps[0].ready_after is None
    assert found.reason == found.steps[0].reason


def test_a_record_that_ends_early_leaves_it_open():
    found = whatif.summary(recorded.release(walk=((10, timedelta(minutes=2)),)), LITERAL, "own")
    assert found.outcome is Ending.OPEN
    assert found.after is None


def test_another_walk_gives_its_limits_to_the_weights_of_the_record():
    limits = (Limits(error_rate="0.1%"), Limits(error_rate="5%"))
    phases = tuple(
        Phase(name=name, weight=weight, duration=timedelta(minutes=2), limits=limit)
        for name, weight, limit in zip("ab", (25, 50), limits, strict=True)
    )
    spec = whatif.on_walk(RolloutSpec(phases=phases), (10, 50, 100))
    assert [step.weight for step in spec.steps()] == [10, 50, 100]
    assert [step.limits for step in spec.steps()] == [limits[0], limits[1], limits[1]]
    assert whatif.on_walk(spec, (10, 50, 100)) is spec


def test_a_record_without_a_canary_is_refused():
    record = recorded.release(walk=((0, timedelta(minutes=1)),))
    with pytest.raises(Invalid, match="carried no traffic"):
        whatif.summary(
            type(record)(record.source, record.header, record.observations, placed=False), LITERAL, "x"
        )

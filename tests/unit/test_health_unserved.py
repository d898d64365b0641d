"""Intervals in which nobody of a variant could answer: what the router answered is evidence about nobody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from phoenix_orch.health_validator.explanation import explained
from phoenix_orch.health_validator.history import learn
from phoenix_orch.health_validator.judge import JudgeConfig, init, step
from phoenix_orch.health_validator.observation import Arm, Observation, Quality, Verdict, VerdictKind
from phoenix_orch.health_validator.plan import plan, stable_past
from phoenix_orch.health_validator.recording import Header, Recording
from phoenix_orch.health_validator.resting import at_rest
from phoenix_orch.rollout.spec import Limits, Phase, Policy, RolloutSpec

START = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(seconds=10)
LIMITS = Limits(error_rate="1%")
WALK = (
    Phase(name="first", weight=20, duration="10m", limits=LIMITS),
    Phase(name="full", weight=100, duration="2m", limits=LIMITS),
)
GATES = ("statistical", "literal")
ABSENT = Arm(revision="old", quality=Quality.GAP, unserved=10.0)


def spec(gate: str = "statistical") -> RolloutSpec:
    return RolloutSpec(phases=WALK, policy=Policy(gate=gate))


def observe(number: int, canary: Arm, stable: Arm | None) -> Observation:
    return Observation(
        t0=START + number * TICK,
        t1=START + (number + 1) * TICK,
        revision="new",
        step=0,
        weight_applied=20,
        canary=canary,
        stable=stable,
    )


def arm(revision: str, requests: int, errors: int = 0) -> Arm:
    return Arm(revision=revision, requests=requests, errors=errors, processes=1)


def story(stable: Arm, *, failing: int = 0) -> list[Observation]:
    """Two intervals out of the ordinary between ordinary ones."""
    usual = arm("new", 100), arm("old", 400)
    odd = arm("new", 100, failing), stable
    return [observe(n, *(odd if n in (6, 7) else usual)) for n in range(20)]


def verdicts(observations: list[Observation], gate: str) -> list[Verdict]:
    config = JudgeConfig.of(spec(gate), interval=TICK)
    state, found = init(config, "new", 1), []
    for observation in observations:
        state, verdict = step(config, state, observation)
        found.append(verdict)
    return found


def against_stable(observations: list[Observation]) -> float:
    (item,) = [e for e in verdicts(observations, "statistical")[-1].evidence if e.metric == "errorRate"]
    assert item.e_stable is not None
    return item.e_stable


@pytest.mark.parametrize("gate", GATES)
def test_a_stable_variant_that_was_not_there_is_no_verdict_on_anybody(gate: str) -> None:
    found = verdicts(story(ABSENT), gate)
    assert {verdict.kind for verdict in found[1:]} == {VerdictKind.CONTINUE}
    (errors,) = [item for item in found[-1].evidence if item.metric == "errorRate"]
    assert (errors.stable_bad, errors.bad) == (0, 0)


def test_what_the_canary_did_meanwhile_is_compared_with_nobody() -> None:
    """The counts of a source that was silent come later, and the other variant's wait for them. These never
    come, and stable's next minute is not the canary's last one."""
    quiet = [observation for observation in story(ABSENT) if observation.stable is not ABSENT]
    assert against_stable(story(ABSENT, failing=2)) == pytest.approx(against_stable(quiet), rel=0.2)
    silent = Arm(revision="old", quality=Quality.GAP)
    assert against_stable(story(silent, failing=2)) > 1.4 * against_stable(story(ABSENT, failing=2))


@pytest.mark.parametrize("gate", GATES)
def test_a_canary_that_is_not_there_passes_nothing(gate: str) -> None:
    gone = Arm(revision="new", quality=Quality.GAP, unserved=10.0)
    found = verdicts(
        [observe(n, gone if n > 5 else arm("new", 100), arm("old", 400)) for n in range(20)], gate
    )
    assert found[-1].kind is VerdictKind.HOLD
    assert found[-1].observed_for < timedelta(minutes=1)


def test_the_past_knows_nothing_of_an_absence() -> None:
    """So it can neither make a limit unattainable nor look like a burst of errors."""
    rest = [at_rest(observe(n, arm("old", 400) if n % 5 else ABSENT, None)) for n in range(200)]
    parameters = spec().policy.statistical
    past = stable_past(rest, "old", parameters)
    assert (past.requests, past.errors, past.seconds) == (160 * 400, 0, 1600.0)
    assert plan(spec(), past).broken == ()
    assert learn(rest, parameters, stable="old").errors == 0


def test_an_explanation_says_that_nobody_was_there() -> None:
    header = Header(rollout="web", release=1, revision="new", version="2")
    found = explained(Recording(header=header, source="", observations=tuple(story(ABSENT))), spec())
    assert found.notes == (
        "no instance of stable was ready for 20 s; what the router answered is not counted",
    )
    assert "stable failed 0 %" in found.sentence

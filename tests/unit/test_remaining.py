"""How long a release still takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from phoenix_orch.health_validator.observation import Verdict, VerdictKind
from phoenix_orch.rollout.remaining import time_left
from phoenix_orch.rollout.spec import Policy, RolloutSpec
from phoenix_orch.rollout.status import State, Status

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER_STEPS, BAKE = timedelta(minutes=35), timedelta(minutes=30)
SPENT = timedelta(minutes=12)
OVER = Status(state=State.PROGRESSING, step=0, step_clock=NOW - SPENT, stable="old", canary="new")


def verdict(kind: VerdictKind, step: int = 0) -> Verdict:
    return Verdict(kind=kind, revision="new", step=step, at=NOW, reason="so it is")


def left(kind: VerdictKind, spec: RolloutSpec | None = None, step: int = 0) -> timedelta | None:
    return time_left(spec or RolloutSpec(), OVER, NOW, verdict(kind, step))


def test_an_extension_is_part_of_the_time_left() -> None:
    assert left(VerdictKind.CONTINUE) == LATER_STEPS + BAKE
    assert left(VerdictKind.EXTEND) == timedelta(minutes=20) - SPENT + LATER_STEPS + BAKE
    assert left(VerdictKind.EXTEND, step=1) == LATER_STEPS + BAKE  # it is about another step


def test_an_extension_of_the_bake_as_well() -> None:
    baking = OVER.model_copy(update={"state": State.BAKING, "step": 6, "canary": None})
    found = time_left(RolloutSpec(), baking, NOW, verdict(VerdictKind.EXTEND, step=6))
    assert found == 2 * BAKE - SPENT


def test_nobody_knows_how_long_it_is_held() -> None:
    assert left(VerdictKind.HOLD) is None
    literal = RolloutSpec(policy=Policy(gate="literal"))
    assert left(VerdictKind.EXTEND, literal) is None

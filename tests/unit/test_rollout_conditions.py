"""Conditions of a rollout, as `kubectl wait` reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from phoenix_orch.health_validator.observation import Category, Verdict, VerdictKind
from phoenix_orch.rollout.conditions import STALLED, Condition, conditions, stalled
from phoenix_orch.rollout.status import Cause, State, Status, Verification, VerifyStep

NOW = datetime(2026, 1, 1, 12, 0, 0, 999999, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
CAUSE = Cause(revision="b", trigger="crash-loop", reason="3 exits in 5m", at=NOW)


def verdict(kind: VerdictKind, category: Category = Category.PROGRESS, revision: str = "b") -> Verdict:
    return Verdict(kind=kind, category=category, revision=revision, step=0, at=NOW, reason="because")


def verification(*, ok: bool) -> Verification:
    return Verification(
        kind="promotion",
        revision="a",
        release=1,
        at=NOW,
        steps=(VerifyStep(name="critical path", ok=ok, detail=""),),
    )


def of(status: Status, said: Verdict | None = None) -> dict[str, str]:
    return {found.type: found.status for found in conditions(status, NOW, verdict=said)}


def status(state: State, **fields: Any) -> Status:
    return Status(state=state, **{"stable": "a", "canary": "b", "release": 1, **fields})


@pytest.mark.parametrize(
    ("state", "progressing", "healthy", "promoted", "rolled_back"),
    [
        (State.INITIALIZING, "True", "Unknown", "False", "False"),
        (State.IDLE, "False", "True", "False", "False"),
        (State.STARTING, "True", "True", "False", "False"),
        (State.PROGRESSING, "True", "True", "False", "False"),
        (State.PAUSED, "False", "True", "False", "False"),
        (State.PROMOTING, "True", "True", "False", "False"),
        (State.BAKING, "True", "True", "False", "False"),
        (State.ROLLING_BACK, "True", "False", "False", "False"),
        (State.CANCELLING, "True", "True", "False", "False"),
        (State.PROMOTED, "False", "True", "True", "False"),
        (State.ROLLED_BACK, "False", "True", "False", "True"),
    ],
)
def test_every_state_has_its_conditions(
    state: State, progressing: str, healthy: str, promoted: str, rolled_back: str
) -> None:
    assert of(status(state)) == {
        "Progressing": progressing,
        "Healthy": healthy,
        "Promoted": promoted,
        "RolledBack": rolled_back,
        "Stalled": "False",
    }


def test_no_state_is_forgotten() -> None:
    for state in State:
        for found in conditions(status(state), NOW):
            assert found.reason.isalnum(), found
            assert found.reason[0].isupper(), found


def test_what_was_never_released_is_not_known_to_be_promoted() -> None:
    assert of(status(State.IDLE, release=0))["Promoted"] == "Unknown"


@pytest.mark.parametrize(
    ("said", "healthy"),
    [
        (verdict(VerdictKind.CONTINUE), "True"),
        (verdict(VerdictKind.ADVANCE), "True"),
        (verdict(VerdictKind.ROLLBACK, Category.EVIDENCE), "False"),
        (verdict(VerdictKind.HOLD, Category.REGRESSION), "False"),
        (verdict(VerdictKind.HOLD, Category.ENVIRONMENT), "False"),
        (verdict(VerdictKind.HOLD, Category.NO_DATA), "Unknown"),
        (verdict(VerdictKind.HOLD, Category.NO_ANSWERS), "Unknown"),
        (verdict(VerdictKind.HOLD, Category.STALE), "Unknown"),
        (verdict(VerdictKind.HOLD, Category.ROUTING), "Unknown"),
        (verdict(VerdictKind.ROLLBACK, revision="of a release before"), "True"),
    ],
)
def test_health_is_the_verdict_on_what_is_judged_now(said: Verdict, healthy: str) -> None:
    assert of(status(State.PROGRESSING), said)["Healthy"] == healthy


def test_a_verdict_says_nothing_of_a_service_at_rest() -> None:
    assert of(status(State.ROLLED_BACK), verdict(VerdictKind.ROLLBACK))["Healthy"] == "True"


@pytest.mark.parametrize("ok", [True, False])
def test_a_failed_verification_is_not_healthy(ok: bool) -> None:
    assert of(status(State.PROMOTED, verification=verification(ok=ok)))["Healthy"] == str(ok)


def test_time_moves_with_the_status_only() -> None:
    first = conditions(status(State.STARTING), NOW, generation=1)
    second = conditions(status(State.PROGRESSING, message="5%"), LATER, first, generation=2)
    assert {found.last_transition_time for found in second} == {NOW.replace(microsecond=0)}
    assert {found.observed_generation for found in second} == {2}
    third = {found.type: found for found in conditions(status(State.PROMOTED), LATER, second)}
    assert third["Promoted"].last_transition_time == LATER.replace(microsecond=0)
    assert third["Healthy"].last_transition_time == NOW.replace(microsecond=0)


def test_what_is_in_the_way_stays_through_decisions_until_it_is_gone() -> None:
    first = {c.type: c for c in conditions(status(State.IDLE), NOW, generation=1)}[STALLED]
    assert stalled("", "", NOW, first, generation=1) is None
    blocked = stalled("Claimed", "by another", LATER, first, generation=1)
    assert blocked is not None
    assert (blocked.status, blocked.reason, blocked.message) == ("True", "Claimed", "by another")
    assert blocked.last_transition_time == LATER.replace(microsecond=0)
    assert stalled("Claimed", "by another", LATER, blocked, generation=1) is None
    later = conditions(status(State.STARTING), LATER, [blocked], generation=2)
    assert later[-1] == blocked
    over = stalled("", "", LATER, blocked, generation=2)
    assert over is not None
    assert (over.status, over.message) == ("False", "")


def test_nothing_is_written_to_say_that_nothing_is_in_the_way() -> None:
    assert stalled("", "", NOW, None, generation=1) is None


def test_why_it_was_taken_back_is_said() -> None:
    found = {c.type: c for c in conditions(status(State.ROLLED_BACK, cause=CAUSE), NOW)}["RolledBack"]
    assert (found.reason, found.message) == ("CrashLoop", "3 exits in 5m")


@pytest.mark.parametrize("trigger", ["verdict", "check/log-in", "stale-verdict", "person", "check/9"])
def test_reasons_are_words_that_kubernetes_takes(trigger: str) -> None:
    cause = CAUSE.model_copy(update={"trigger": trigger})
    found = conditions(status(State.ROLLED_BACK, cause=cause), NOW)[3]
    assert found.reason.isalpha()


def test_json_is_in_whole_seconds_of_utc() -> None:
    found = conditions(status(State.IDLE), NOW)[0]
    assert '"lastTransitionTime":"2026-01-01T12:00:00Z"' in found.model_dump_json()
    assert Condition.model_validate_json(found.model_dump_json()) == found

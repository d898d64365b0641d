"""Every arrow of the diagram is taken by a test, and the reference page shows the arrows there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.rollout_setting import (
    LAST,
    MINUTE,
    NEW,
    NEXT,
    OLD,
    SPEC,
    STEPS,
    T0,
    command,
    policy,
    status_in,
    traffic_for,
    turn,
    verdict,
    verification,
    world,
)

from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.rollout import diagram
from phoenix_orch.rollout.facts import Decision, GroupFacts, Observed, TrafficFacts
from phoenix_orch.rollout.status import CommandKind, State
from phoenix_orch.rollout.transitions import TRANSITIONS
from phoenix_orch.rollout.turn import Turn

S = State
PAGE = Path(__file__).parents[2] / diagram.PAGE


def told(state: State, kind: CommandKind, **changes: Any) -> Decision:
    return turn(status_in(state), commands=(command(kind),), **changes)


def judged(state: State, kind: VerdictKind, minutes: int = 60, **remembered: Any) -> Decision:
    status, at = status_in(state, **remembered), T0 + minutes * MINUTE
    return turn(status, at, verdict=verdict(kind, at, step=status.step))


def swapped(stable: str = NEW, **changes: Any) -> TrafficFacts:
    return replace(TrafficFacts(stable=stable, previous=OLD, seen=0, seen_stable=stable), **changes)


BAD, GOOD = VerdictKind.ROLLBACK, VerdictKind.ADVANCE

ARROWS: dict[tuple[State, State], Callable[[], Decision]] = {
    (S.INITIALIZING, S.IDLE): lambda: turn(status_in(S.INITIALIZING)),
    (S.IDLE, S.STARTING): lambda: turn(status_in(S.IDLE), target=NEW),
    (S.PROMOTED, S.STARTING): lambda: turn(status_in(S.PROMOTED), target=NEXT),
    (S.ROLLED_BACK, S.STARTING): lambda: told(S.ROLLED_BACK, CommandKind.RETRY),
    (S.ROLLED_BACK, S.IDLE): lambda: turn(status_in(S.ROLLED_BACK), target=OLD),
    (S.STARTING, S.PROGRESSING): lambda: turn(status_in(S.STARTING)),
    (S.STARTING, S.PROMOTING): lambda: turn(status_in(S.STARTING, fast=True), fast=True),
    (S.STARTING, S.PAUSED): lambda: told(S.STARTING, CommandKind.PAUSE),
    (S.STARTING, S.CANCELLING): lambda: turn(status_in(S.STARTING), target=OLD),
    (S.STARTING, S.ROLLING_BACK): lambda: told(S.STARTING, CommandKind.ABORT),
    (S.PROGRESSING, S.PROMOTING): lambda: judged(S.PROGRESSING, GOOD, step=LAST, weight=100),
    (S.PROGRESSING, S.PAUSED): lambda: told(S.PROGRESSING, CommandKind.PAUSE),
    (S.PROGRESSING, S.STARTING): lambda: turn(status_in(S.PROGRESSING), target=NEXT),
    (S.PROGRESSING, S.CANCELLING): lambda: turn(status_in(S.PROGRESSING), target=OLD),
    (S.PROGRESSING, S.ROLLING_BACK): lambda: judged(S.PROGRESSING, BAD),
    (S.PAUSED, S.STARTING): lambda: turn(status_in(S.PAUSED), target=NEXT),
    (S.PAUSED, S.PROGRESSING): lambda: told(S.PAUSED, CommandKind.RESUME),
    (S.PAUSED, S.PROMOTING): lambda: told(S.PAUSED, CommandKind.PROMOTE_FULL),
    (S.PAUSED, S.CANCELLING): lambda: turn(status_in(S.PAUSED), target=OLD),
    (S.PAUSED, S.ROLLING_BACK): lambda: judged(S.PAUSED, BAD),
    (S.PROMOTING, S.BAKING): lambda: turn(status_in(S.PROMOTING), traffic=swapped()),
    (S.PROMOTING, S.PAUSED): lambda: turn(
        status_in(S.PROMOTING), verdict=verdict(BAD, T0 + MINUTE, step=LAST), spec=policy(on_failure="pause")
    ),
    (S.PROMOTING, S.STARTING): lambda: turn(status_in(S.PROMOTING), target=NEXT),
    (S.PROMOTING, S.CANCELLING): lambda: turn(status_in(S.PROMOTING), target=OLD),
    (S.PROMOTING, S.ROLLING_BACK): lambda: told(S.PROMOTING, CommandKind.ABORT),
    (S.BAKING, S.PROMOTED): lambda: judged(S.BAKING, GOOD, verification=verification("promotion")),
    (S.BAKING, S.STARTING): lambda: turn(status_in(S.BAKING), target=NEXT),
    (S.BAKING, S.ROLLING_BACK): lambda: turn(
        status_in(S.BAKING), verification=verification("promotion", ok=False)
    ),
    (S.ROLLING_BACK, S.ROLLED_BACK): lambda: turn(
        status_in(S.ROLLING_BACK), verification=verification("rollback")
    ),
    (S.ROLLING_BACK, S.PROMOTED): lambda: turn(
        status_in(S.ROLLING_BACK),
        traffic=swapped(aborted=(OLD, NEW)),
        workload={OLD: GroupFacts(4, 4), NEW: GroupFacts(4, 4)},
    ),
    (S.CANCELLING, S.IDLE): lambda: turn(status_in(S.CANCELLING)),
    (S.CANCELLING, S.STARTING): lambda: turn(status_in(S.CANCELLING), target=NEXT),
}


def test_every_arrow_has_a_story_and_no_story_lacks_its_arrow() -> None:
    assert set(ARROWS) == {(start, end) for start, ends in TRANSITIONS.items() for end in ends}
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize("arrow", ARROWS, ids=lambda arrow: f"{arrow[0].value}-{arrow[1].value}")
def test_arrow(arrow: tuple[State, State]) -> None:
    decision = ARROWS[arrow]()
    assert decision.status.state is arrow[1]
    entered = next(event for event in decision.events if event.reason == arrow[1].value)
    assert entered.message
    assert decision.status.since is not None
    assert decision.status.hold_since is None


def test_a_move_that_is_no_arrow_is_a_defect() -> None:
    idle = status_in(S.IDLE)
    with pytest.raises(AssertionError, match="no transition"):
        Turn(SPEC, idle, world(idle), T0).go(S.BAKING, "out of the blue")


@pytest.mark.parametrize("state", [S.INITIALIZING, S.IDLE, S.PROMOTED, S.ROLLED_BACK, S.PAUSED])
def test_nothing_happens_by_itself_in(state: State) -> None:
    status = status_in(state)
    seen: Observed = world(status)
    if state is S.INITIALIZING:
        seen = replace(seen, workload={OLD: GroupFacts(4, 0)})
    decision = turn(status, T0 + 60 * MINUTE, seen=seen)
    assert decision.status == status
    assert not decision.events
    assert decision.release is None
    assert decision.requeue_after is None


@pytest.mark.parametrize(
    ("state", "after", "wait"),
    [
        (S.STARTING, 4, 6),
        (S.PROGRESSING, 4, 6),
        (S.PROMOTING, 9, 1),
        (S.BAKING, 10, 20),
    ],
)
def test_the_machine_says_when_time_alone_changes_something(state: State, after: int, wait: int) -> None:
    status = status_in(state)
    facts = traffic_for(status)
    unready = {OLD: GroupFacts(4, 4), NEW: GroupFacts(4, 4 if state in {S.PROGRESSING, S.BAKING} else 0)}
    at = T0 + after * MINUTE
    good = verdict(VerdictKind.CONTINUE, at, step=status.step)
    decision = turn(status, at, traffic=facts, workload=unready, verdict=good)
    assert decision.requeue_after == wait * MINUTE


def test_the_reference_page_is_not_stale() -> None:
    assert PAGE.read_text(encoding="utf-8") == diagram.page(), (
        f"write it anew: python -m phoenix_orch.rollout.diagram {diagram.PAGE}"
    )


def test_the_reference_page_names_every_state_and_move(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    diagram.main([str(page)])
    text = page.read_text(encoding="utf-8")
    for state in State:
        assert f"| {state.value} | {diagram.MEANING[state]} |" in text
    for start, end in ARROWS:
        assert f"    {start.value} --> {end.value}: " in text
        assert f"| {start.value} | {end.value} | {TRANSITIONS[start][end]} |" in text
    drawn = text.split("```")[1]
    assert all(line.count(":") <= 1 and ";" not in line for line in drawn.splitlines())


def test_the_page_goes_to_the_terminal_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    diagram.main([])
    assert capsys.readouterr().out == diagram.page()


def test_the_walk_has_a_step_for_every_weight() -> None:
    assert [step.weight for step in STEPS] == [5, 20, 40, 60, 80, 100]

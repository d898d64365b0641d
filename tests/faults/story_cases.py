"""The matrix of deaths: who dies, in which phase of which release; what has to come of it each time."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import pytest
from tests.faults.story import NAME, Ending, Story, check_history

from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.status import CommandKind, State

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

TRIES = 4
"""Releases until one was caught in a phase that lasts a few hundredths of a second."""
AFTERMATH = 3.0
"""Seconds after a death in which a request may still fail because of it, where any may."""


class Victim(StrEnum):
    NOBODY = "nobody"
    PHOENIX = "Phoenix"
    ROUTER = "router"
    STORE = "Valkey"
    REPLICA = "stable replica"


class Kind(StrEnum):
    GOOD = "good"
    BAD = "bad"  # nine of ten answers are errors
    ABORTED = "aborted"  # good, taken back by a person during the bake


FAULT_OF = {Kind.GOOD: "", Kind.BAD: "errors:0.9", Kind.ABORTED: ""}
GOOD = Ending("Promoted", "released", "promoted", 0, 0, latched=False, instances=(("released", 2),))
BAD = Ending("RolledBack", "before", "rolledBack", 0, 0, latched=True, instances=(("before", 2),))
ENDING_OF = {Kind.GOOD: GOOD, Kind.BAD: BAD, Kind.ABORTED: BAD}
"""What comes of a release when nobody dies, and so what has to come of it when somebody does."""

PHASES_OF: dict[Kind, tuple[str, ...]] = {
    Kind.GOOD: ("Starting", "step 1", "step 2", "step 3", "Promoting", "Baking"),
    Kind.BAD: ("Starting", "step 1", "RollingBack"),
    Kind.ABORTED: ("RollingBack",),
}
QUICK = {
    Victim.PHOENIX: {(Kind.GOOD, "Promoting"), (Kind.BAD, "RollingBack")},
    Victim.ROUTER: {(Kind.GOOD, "step 2"), (Kind.BAD, "step 1")},
    Victim.STORE: {(Kind.GOOD, "Baking"), (Kind.BAD, "RollingBack")},
    Victim.REPLICA: {(Kind.GOOD, "step 2")},
}
"""Cases of every test run; the others are part of `make test-all`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the table in docs/reference/faults.md."""

    victim: str
    release: str
    phase: str
    state: str
    """The resting state in the end."""
    failed: int
    """Requests of users that failed from the death to the end and were not answered by a bad version."""
    failing: float
    """Seconds from the death to the last of them; 0 without any."""

    def line(self) -> dict[str, object]:
        return asdict(self)


def play(story: Story, victim: Victim, kind: Kind, phase: str) -> Outcome:
    """One release with one death in it. Checks everything that has to hold."""
    for _ in range(TRIES):
        version = story.begin(FAULT_OF[kind])
        view = _reach(story, kind, phase)
        if view is not None:
            break
        story.ending(version)
    else:
        raise AssertionError(f"{phase} was missed {TRIES} times")
    before = story.events()
    release = view.rollout.status.release
    at = _strike(story, victim, view)
    ending = story.ending(version)
    assert ending == ENDING_OF[kind], [line.cause for line in story.release(release)]
    check_history(before, story.events(), release)
    story.until_nobody_is_lost()
    failures = [failure for failure in story.users.failures_since(at) if failure.status != 500]
    if kind is not Kind.BAD:
        failures = story.users.failures_since(at)
    last = max((failure.at - at for failure in failures), default=0.0)
    outcome = Outcome(victim, kind, phase, ending.state, len(failures), round(last, 1))
    _judge(outcome)
    return outcome


def _reach(story: Story, kind: Kind, phase: str) -> RolloutView | None:
    """Wait for the phase. None: it was over before anybody could look."""
    if kind is Kind.ABORTED:
        story.until_state(State.BAKING)
        story.client.command(NAME, CommandKind.ABORT, reason="a person's word")
    step = int(phase.removeprefix("step ")) - 1 if phase.startswith("step ") else None
    view = story.until_view(phase, lambda view: _at_or_past(view, phase, step))
    return view if _at(view, phase, step) else None


def _at(view: RolloutView, phase: str, step: int | None) -> bool:
    status = view.rollout.status
    if step is None:
        return status.state.value == phase
    return status.state is State.PROGRESSING and status.step == step and status.step_clock is not None


def _at_or_past(view: RolloutView, phase: str, step: int | None) -> bool:
    status = view.rollout.status
    over = {State.PROMOTED, State.ROLLED_BACK}
    if status.state in over:
        return True
    if step is not None:
        past = status.step > step or status.state in {State.PROMOTING, State.BAKING, State.ROLLING_BACK}
        return past or _at(view, phase, step)
    order = (State.STARTING, State.PROGRESSING, State.PROMOTING, State.BAKING)
    if phase in order and status.state in order:
        return order.index(status.state) >= order.index(State(phase))
    return status.state.value == phase


def _strike(story: Story, victim: Victim, view: RolloutView) -> float:
    """Kill -9; the moment. A dead Phoenix is started again, the others are Phoenix's own business."""
    if victim is Victim.NOBODY:
        return time.time()
    pid = {
        Victim.PHOENIX: lambda: story.phoenix.pid,
        Victim.ROUTER: story.router_pid,
        Victim.STORE: story.valkey_pid,
        Victim.REPLICA: lambda: story.replica_pid(view.rollout.status.stable),
    }[victim]()
    at = story.kill(pid)
    if victim is Victim.PHOENIX:
        story.restart()
    return at


def _judge(outcome: Outcome) -> None:
    """How many requests a death may cost."""
    if outcome.victim in {Victim.NOBODY, Victim.PHOENIX, Victim.STORE}:
        assert outcome.failed == 0, outcome
    else:
        assert outcome.failing < AFTERMATH, outcome
    if outcome.victim == Victim.REPLICA:
        assert outcome.failed <= 20, outcome  # those it was working on


def cases(victim: Victim) -> list[ParameterSet]:
    """(kind, phase) of every case of a victim, for `parametrize`."""
    return [
        pytest.param(
            kind,
            phase,
            id=f"{kind}-{phase.replace(' ', '-')}",
            marks=() if (kind, phase) in QUICK[victim] else pytest.mark.slow,
        )
        for kind, phases in PHASES_OF.items()
        for phase in phases
    ]

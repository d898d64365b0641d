"""The phases of a release as a track, and what a person may do now. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from phoenix_orch.health_validator import explain
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.orchestrator import wording
from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.commands import refusal
from phoenix_orch.rollout.spec import Step
from phoenix_orch.rollout.status import RESTING, CommandKind, State

_TAKEN_BACK = frozenset({State.ROLLING_BACK, State.ROLLED_BACK, State.CANCELLING})
_MARKS = {">": "now", "+": "done", " ": "ahead"}


@dataclass(frozen=True, slots=True)
class Stop:
    """One step on the track."""

    label: str
    mark: str
    """done, now, failed, ahead: a class of the style sheet."""
    detail: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One phase with its steps."""

    name: str
    mark: str
    stops: tuple[Stop, ...]


def track(view: RolloutView) -> tuple[Stage, ...]:
    """All phases, the bake last."""
    stages: list[Stage] = []
    names: list[str] = []
    for step in view.steps:
        stop = Stop(f"{step.weight} %", _mark(view, step.index), _detail(step))
        if names and names[-1] == step.phase:
            before = stages[-1]
            stages[-1] = Stage(step.phase, _whole((*before.stops, stop)), (*before.stops, stop))
        else:
            names.append(step.phase)
            stages.append(Stage(step.phase, stop.mark, (stop,)))
    return (*stages, _bake(view))


def _mark(view: RolloutView, index: int) -> str:
    mark = _MARKS[wording.mark(view, index)]
    return "failed" if mark == "now" and view.rollout.status.state in _TAKEN_BACK else mark


def _whole(stops: tuple[Stop, ...]) -> str:
    """A phase is where its most telling step is."""
    marks = [stop.mark for stop in stops]
    for mark in ("failed", "now"):
        if mark in marks:
            return mark
    return marks[0] if len(set(marks)) == 1 else "now"


def _detail(step: Step) -> str:
    limits = step.limits
    parts = [f"{step.weight} % for {format_duration(step.duration)}"]
    if limits.error_rate is not None:
        parts.append(f"errors at most {explain.percent(limits.error_rate)}")
    if limits.latency_p95 is not None:
        parts.append(f"p95 at most {explain.seconds(limits.latency_p95.total_seconds())}")
    if limits.latency_p99 is not None:
        parts.append(f"p99 at most {explain.seconds(limits.latency_p99.total_seconds())}")
    return ", ".join(parts)


def _bake(view: RolloutView) -> Stage:
    mark = {State.BAKING: "now", State.PROMOTED: "done"}.get(view.rollout.status.state, "ahead")
    length = format_duration(view.rollout.spec.policy.bake)
    return Stage("bake", mark, (Stop(length, mark, f"watched for {length} after the promotion"),))


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that a person may ask for."""

    kind: str
    """The last part of the address that it is sent to."""
    label: str
    question: str
    severe: bool = False
    key: str = ""
    """Shortcut."""


_ACTS: tuple[tuple[CommandKind, Act], ...] = (
    (
        CommandKind.PAUSE,
        Act("pause", "Pause", "Keep the weight where it is until somebody resumes?", key="p"),
    ),
    (CommandKind.RESUME, Act("resume", "Resume", "Let the release walk on?", key="r")),
    (CommandKind.PROMOTE, Act("promote", "Promote step", "Skip what is left of this step?", key="m")),
    (
        CommandKind.PROMOTE_FULL,
        Act(
            "promote-full",
            "Promote fully",
            "Skip all steps and send all traffic to the new version?",
            severe=True,
        ),
    ),
    (CommandKind.END_BAKE, Act("end-bake", "End bake", "Stop watching and let the old version go?")),
    (
        CommandKind.ABORT,
        Act("abort", "Abort", "Send everybody back to the old version, at once?", severe=True, key="a"),
    ),
    (CommandKind.RETRY, Act("retry", "Retry", "Lift the latch and release this version again?", key="t")),
)
UNDO = Act("undo", "Undo", "Go back to an earlier version?", severe=True, key="u")
START = Act("start", "Start release", "Release another version, step by step?", key="s")


def all_acts() -> tuple[Act, ...]:
    """Everything there is a form for."""
    return (START, *(act for _, act in _ACTS), UNDO)


def acts(view: RolloutView) -> tuple[Act, ...]:
    """What makes sense in the present state, in the order of the buttons."""
    status = view.rollout.status
    found = [act for kind, act in _ACTS if refusal(status, kind) is None]
    if status.state in RESTING:
        found.insert(0, START)
    if status.state in (State.IDLE, State.PROMOTED, State.ROLLED_BACK):
        found.append(UNDO)
    return tuple(found)

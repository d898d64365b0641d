"""The working copy of one decision: the status being moved and what is noted on the way."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from phoenix_orch.health_validator.observation import Verdict
from phoenix_orch.rollout.facts import Observed
from phoenix_orch.rollout.spec import RolloutSpec, Step
from phoenix_orch.rollout.status import (
    ACTIVE,
    Cause,
    Event,
    Outcome,
    Release,
    State,
    Status,
    under_judgement,
)
from phoenix_orch.rollout.transitions import TRANSITIONS


class Turn:
    """Lives for one call of `decide`; nothing of it survives but what `decide` returns."""

    def __init__(self, spec: RolloutSpec, status: Status, observed: Observed, now: datetime) -> None:
        self.spec = spec
        self.steps = spec.steps()
        self.status = _continued(status, self.steps, now)
        self.seen = observed
        self.now = now
        self.events: list[Event] = []
        self.release: Release | None = None

    @property
    def step(self) -> Step:
        """The step the rollout is at; the last one once the walk is over."""
        return self.steps[min(self.status.step, len(self.steps) - 1)]

    def note(self, reason: str, message: str, *, actor: str = "phoenix") -> None:
        """Say what happened, once."""
        self.events.append(
            Event(
                at=self.now,
                reason=reason,
                message=message,
                revision=self.status.canary or self.status.stable or "",
                release=self.status.release,
                actor=actor,
            )
        )

    def update(self, **changes: Any) -> None:
        self.status = self.status.model_copy(update=changes)

    def go(self, state: State, message: str, *, actor: str = "phoenix", **changes: Any) -> None:
        """Move to `state`; a move that `TRANSITIONS` does not hold is a defect of Phoenix."""
        if state not in TRANSITIONS[self.status.state]:
            raise AssertionError(f"no transition {self.status.state} -> {state}")
        self.update(state=state, since=self.now, message=message, hold_since=None, obstacle=None, **changes)
        self.note(state.value, message, actor=actor)

    def under_judgement(self) -> str | None:
        """The revision that a rollback would take back now."""
        return under_judgement(self.status)

    def verdict(self) -> Verdict | None:
        """The verdict of the revision under judgement, if it was given during this release."""
        verdict, started = self.seen.verdict, self.status.release_started
        if verdict is None or verdict.revision != self.under_judgement():
            return None
        return None if started is not None and verdict.at < started else verdict

    def fresh_cause(self) -> Cause | None:
        """Why somebody latched the revision under judgement during this release, if that was said."""
        cause, started = self.seen.cause, self.status.release_started
        if cause is None or cause.revision != self.under_judgement():
            return None
        return cause if started is None or cause.at > started else None

    def begin(self, target: str, message: str, *, actor: str = "phoenix", clear_latch: bool = False) -> None:
        """Start the release of `target`. A canary that still carries traffic leaves first."""
        fresh: dict[str, Any] = {
            "canary": target,
            "previous": None,
            "release": self.status.release + 1,
            "release_started": self.now,
            "fast": self.seen.fast,
            "step": 0,
            "step_clock": None,
            "weight": 0,
            "pause_by": "",
            "resume_to": None,
            "clear_latch": clear_latch,
            "cause": None,
            "verification": None,
        }
        if self.status.state is State.STARTING:
            self.update(since=self.now, message=message, hold_since=None, obstacle=None, **fresh)
            self.note("Superseded", message, actor=actor)
        else:
            self.go(State.STARTING, message, actor=actor, **fresh)

    def take_back(
        self, trigger: str, reason: str, *, actor: str = "phoenix", cause: Cause | None = None
    ) -> None:
        """Begin the rollback of the revision under judgement."""
        status, revision, verdict = self.status, self.under_judgement(), self.verdict()
        if revision is None:
            return
        baking = status.state is State.BAKING
        cause = cause or Cause(
            revision=revision,
            trigger=trigger,
            reason=reason,
            at=self.now,
            actor=actor,
            step=status.step,
            weight=100 if baking else status.weight,
            evidence=verdict.evidence if verdict else (),
        )
        self.go(
            State.ROLLING_BACK,
            cause.reason,
            actor=cause.actor,
            stable=status.previous if baking else status.stable,
            canary=revision,
            previous=None,
            cause=cause,
            weight=0,
            step_clock=None,
            clear_latch=False,
            pause_by="",
            resume_to=None,
            verification=None,
        )

    def freeze(self, message: str) -> None:
        """Keep the weight and wait for a person."""
        self.go(
            State.PAUSED,
            message,
            pause_by="policy",
            resume_to=State.PROGRESSING,
            step_clock=None,
        )

    def end(self, outcome: Outcome, reason: str, *, revision: str, replaced: str | None) -> None:
        """Write the line of the history for the release that ends here."""
        status, verdict = self.status, self.seen.verdict
        reached = status.cause.weight if status.cause else status.weight
        self.release = Release(
            number=status.release,
            revision=revision,
            replaced=replaced,
            started=status.release_started,
            ended=self.now,
            outcome=outcome,
            reason=reason,
            step=status.step,
            weight=100 if outcome is Outcome.PROMOTED else reached,
            cause=status.cause,
            verdict=verdict if verdict is not None and verdict.revision == revision else None,
            verification=status.verification,
        )

    def finish(self, message: str, *, actor: str = "phoenix") -> None:
        """The release has succeeded; the old revision may go."""
        if self.status.stable is not None:
            self.end(Outcome.PROMOTED, message, revision=self.status.stable, replaced=self.status.previous)
        self.go(State.PROMOTED, message, actor=actor, previous=None, canary=None, fast=False, step_clock=None)


_MOMENTS = ("since", "release_started", "step_clock", "hold_since")


def _continued(status: Status, steps: tuple[Step, ...], now: datetime) -> Status:
    """The status as a turn can go on with it.

    The clock may have been put back: what then lies in the future begins anew now, or verdicts would
    seem older than the release and deadlines would last for hours. The walk may have been shortened:
    a rollout beyond its end stands at the end, and never has more weight than its step.
    """
    moments = {name: getattr(status, name) for name in _MOMENTS}
    changes: dict[str, Any] = {name: now for name, at in moments.items() if at is not None and at > now}
    if status.state is State.BAKING and status.step != len(steps):
        changes["step"] = len(steps)
    elif status.state in ACTIVE and status.step >= len(steps):
        changes |= {"step": len(steps) - 1, "step_clock": None}
    if status.state in {State.PROGRESSING, State.PAUSED}:
        most = steps[min(status.step, len(steps) - 1)].weight
        if status.weight > most:
            changes |= {"weight": most, "step_clock": None}
    return status.model_copy(update=changes) if changes else status

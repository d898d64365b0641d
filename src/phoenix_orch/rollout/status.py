"""Where a rollout stands, and the records it leaves behind. Data only.

`Status` is everything `machine.decide` needs to go on after a crash; there is no other memory. Words of
people, programs and libraries are made fit to be shown when a record is made: see `kernel.masking.Told`.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from phoenix_orch.health_validator.observation import MetricEvidence, Verdict
from phoenix_orch.kernel.told import Told
from phoenix_orch.rollout.spec import Model, RolloutSpec


class State(StrEnum):
    """States of a rollout. The diagram in the reference is generated from `machine.TRANSITIONS`."""

    INITIALIZING = "Initializing"  # the first revision comes up; there is nothing to compare with
    IDLE = "Idle"  # stable serves, nothing is being released
    STARTING = "Starting"  # canary instances come up, weight 0
    PROGRESSING = "Progressing"  # the canary carries the weight of its step
    PAUSED = "Paused"  # the weight stays; a person, or a time-out, stopped the walk
    PROMOTING = "Promoting"  # the canary is brought to full size, then becomes stable
    BAKING = "Baking"  # the new stable serves everybody; the old one is kept warm
    ROLLING_BACK = "RollingBack"  # latched; weight 0 is awaited, then the canary leaves
    CANCELLING = "Cancelling"  # wanted equals stable again; the canary leaves without blame
    PROMOTED = "Promoted"  # resting after a success
    ROLLED_BACK = "RolledBack"  # resting after a rollback; the revision stays latched


RESTING = frozenset({State.IDLE, State.PROMOTED, State.ROLLED_BACK})
ACTIVE = frozenset({State.STARTING, State.PROGRESSING, State.PAUSED, State.PROMOTING})


class CommandKind(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"  # skip what is left of this step
    PROMOTE_FULL = "promote-full"  # skip all steps; the bake follows
    END_BAKE = "end-bake"  # skip what is left of the bake
    ABORT = "abort"
    RETRY = "retry"  # the only way to lift a latch


class Command(Model):
    """A person's word. Kept in the record until the machine has handled it."""

    id: str
    kind: CommandKind
    actor: str
    at: datetime
    reason: Told = ""
    step: int | None = None
    """The step, from 0, that a promotion is meant for; at any other one it is refused."""
    revision: str = ""
    """The revision that an abort was seen to be meant for, for whoever looks what came of it."""


class Cause(Model):
    """Why a revision was taken back."""

    revision: str
    trigger: str
    """verdict, crash-loop, cannot-start, memory, unready, check/<name>, stale-verdict, no-data, deadline,
    verification, person, latch (found on the traffic object without a word why)."""
    reason: Told
    at: datetime
    actor: str = "phoenix"
    step: int | None = None
    weight: int = 0
    evidence: tuple[MetricEvidence, ...] = ()


class VerifyStep(Model):
    """One of the guide's verification steps and what came of it."""

    name: str
    ok: bool
    detail: Told
    unknown: bool = False
    """Nothing could be said, for example because nobody called the service; neither pass nor failure."""


class Verification(Model):
    """Result of the steps run after a promotion or a rollback."""

    kind: str
    """promotion or rollback."""
    revision: str
    """The revision that is stable now."""
    release: int
    at: datetime
    steps: tuple[VerifyStep, ...] = ()

    @property
    def ok(self) -> bool:
        """No step failed."""
        return all(step.ok or step.unknown for step in self.steps)

    @property
    def failures(self) -> str:
        """Each step that failed with what was found: `critical path login (…: status 404, expected 200)`."""
        failed = [step for step in self.steps if not (step.ok or step.unknown)]
        return ", ".join(f"{step.name} ({step.detail})" if step.detail else step.name for step in failed)


class Obstacle(Model):
    """What a release waits for that is no matter of its health; it gets no more weight until it is gone."""

    reason: str
    """One CamelCase word, for programs: NotSupported, MetricUnknown, MetricUnchecked, QueryRefused,
    PrometheusUnknown."""
    message: Told
    """One sentence, with what to do."""


class Status(Model):
    """The whole memory of one rollout."""

    state: State = State.INITIALIZING
    since: datetime | None = None
    message: Told = ""
    stable: str | None = None
    canary: str | None = None
    """The revision being released, or being taken away."""
    previous: str | None = None
    """The stable revision before a promotion, warm until the bake ends."""
    release: int = 0
    """Counts releases; names their records."""
    release_started: datetime | None = None
    fast: bool = False
    """A return to a revision that was stable before: no steps, no bake."""
    step: int = 0
    step_clock: datetime | None = None
    """When the data plane was first seen to send this step's weight (R3). None: the clock stands."""
    weight: int = 0
    """The weight last asked for; what differs on the traffic object is drift."""
    hold_since: datetime | None = None
    obstacle: Obstacle | None = None
    """Why the release waits although its canary is in order."""
    pause_by: str = ""
    resume_to: State | None = None
    clear_latch: bool = False
    """A person's retry is on its way to the traffic object."""
    cause: Cause | None = None
    verification: Verification | None = None
    handled: tuple[str, ...] = ()
    """Ids of the commands handled last, newest last."""


def under_judgement(status: Status) -> str | None:
    """The revision that a rollback would take back now."""
    if status.state in ACTIVE:
        return status.canary
    if status.state is State.BAKING and status.previous is not None:
        return status.stable
    return None


class Outcome(StrEnum):
    PROMOTED = "promoted"
    ROLLED_BACK = "rolledBack"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class Release(Model):
    """One line of the history: one revision's way, and how it ended."""

    number: int
    revision: str
    version: str = ""
    replaced: str | None = None
    started: datetime | None = None
    ended: datetime
    outcome: Outcome
    reason: Told = ""
    step: int = 0
    weight: int = 0
    cause: Cause | None = None
    verdict: Verdict | None = None
    verification: Verification | None = None


class Event(Model):
    """One thing that happened, in a CamelCase word and a sentence."""

    at: datetime
    reason: str
    message: Told
    revision: str = ""
    release: int = 0
    actor: str = "phoenix"
    state: State | None = None
    """Of the rollout, once it is so; None for what belongs to no decision."""
    weight: int | None = None
    """The weight that is asked for then."""


class Revision(Model):
    """A template that has been wanted at some time, by its hash."""

    revision: str
    number: int
    version: str
    at: datetime
    change_cause: Told = ""
    template: dict[str, Any]


class Rollout(Model):
    """The resource: what is wanted, who asked for what, where it stands."""

    name: str
    service: str
    route: str
    spec: RolloutSpec = RolloutSpec()
    replicas: int = 2
    target: str
    """The revision that is wanted now."""
    applied: str = ""
    """The revision the configuration file asked for last; a restart with the same file asks nothing new."""
    fast: bool = False
    commands: tuple[Command, ...] = ()
    status: Status = Status()
    version: int = 0
    """Rises with every write; the condition of the next."""

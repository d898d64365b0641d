"""One task as it is kept, and the states it goes through.

    scheduled ─┬─► running ─┬─► succeeded
    queued ────┤    │  ▲    ├─► failed      no attempt is left, or none would help
    retrying ──┘    │  │    ├─► cancelled   after its clean-up
       ▲            │  │    └─► dead        its worker died too often, or nobody knows its kind
       └────────────┘  └── its worker died, and another one took it

What waits can be cancelled, too. A person may retry what failed, was cancelled or is dead: it is queued
again and begins anew.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from phoenix_orch.rollout.spec import Model
from phoenix_orch.tasks.spec import Priority


class State(StrEnum):
    SCHEDULED = "scheduled"
    """Waits for its time."""
    QUEUED = "queued"
    """Waits for a worker, or until fewer of its kind run."""
    RUNNING = "running"
    RETRYING = "retrying"
    """Has failed and waits for its next attempt."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Ended with an error, and no attempt is left."""
    CANCELLED = "cancelled"
    DEAD = "dead"
    """Given up without an end of its own: its worker died too often, or it cannot be begun."""


WAITING = frozenset({State.SCHEDULED, State.QUEUED, State.RETRYING})
ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.DEAD})
ACTIVE = frozenset(State) - ENDED
"""Holds its key."""


class Move(StrEnum):
    """What can happen to a task."""

    CLAIM = "claim"
    """A worker takes it: from the queue, or from a worker that died."""
    SUCCEED = "succeed"
    RETRY = "retry"
    """An attempt failed, another one follows."""
    FAIL = "fail"
    PUT_BACK = "put back"
    """Its worker ends and leaves it to another one."""
    CANCEL = "cancel"
    BURY = "bury"
    REVIVE = "revive"
    """A person wants it once more."""


MOVES: dict[Move, tuple[frozenset[State], State]] = {
    Move.CLAIM: (WAITING | {State.RUNNING}, State.RUNNING),
    Move.SUCCEED: (frozenset({State.RUNNING}), State.SUCCEEDED),
    Move.RETRY: (frozenset({State.RUNNING}), State.RETRYING),
    Move.FAIL: (frozenset({State.RUNNING}), State.FAILED),
    Move.PUT_BACK: (frozenset({State.RUNNING}), State.QUEUED),
    Move.CANCEL: (WAITING | {State.RUNNING}, State.CANCELLED),
    Move.BURY: (WAITING | {State.RUNNING}, State.DEAD),
    Move.REVIVE: (ENDED - {State.SUCCEEDED}, State.QUEUED),
}
"""From which states each is possible, and where it leads. The store's scripts are held to it by a test."""


class TaskRecord(Model):
    """Everything that is known of one task. Times are UTC."""

    id: str
    kind: str
    key: str
    target: str = ""
    priority: Priority = Priority.NORMAL
    arguments: dict[str, Any] = Field(default_factory=dict)
    actor: str = ""
    """Who wanted it."""
    reason: str = ""
    request_id: str = ""
    trace: str = ""
    """Header `traceparent` of who wanted it: its spans are of the same trace."""
    schedule: str = ""
    """The schedule that it belongs to, if one."""
    slot: datetime | None = None
    created: datetime

    state: State
    due: datetime
    """When it may begin: now or later."""
    started: datetime | None = None
    """Begin of the last attempt."""
    ended: datetime | None = None
    attempt: int = 0
    """Number of the attempt, from 1; 0 before the first."""
    attempts: int = 1
    """How many it may have."""
    deaths: int = 0
    """How often its worker died while it ran."""
    fence: int = 0
    """Number of the claim: what an earlier one says is not heard."""
    worker: str = ""
    progress: float = 0.0
    """From 0 to 1."""
    text: str = ""
    """What it does now, as it says itself."""
    result: dict[str, Any] | None = None
    error: str = ""
    cancelling: str = ""
    """Who wants it cancelled, while it still cleans up."""

    @property
    def over(self) -> bool:
        return self.state in ENDED


class LogKind(StrEnum):
    LOG = "log"
    PROGRESS = "progress"
    STATE = "state"


class LogEntry(Model):
    """One thing that a task said, or that happened to it. Ids go up; following goes on behind one."""

    id: str
    at: datetime
    kind: LogKind
    text: str = ""
    """The line, or what it does now, or the error that it ended with."""
    state: State | None = None
    progress: float | None = None


class ScheduleState(Model):
    """What has become of a schedule so far."""

    last: datetime | None = None
    """The last slot that was taken, or from when on slots count."""
    slot: datetime | None = None
    """The slot that ran last."""
    paused: bool = False
    runs: int = 0
    missed: int = 0
    """Slots that passed while nobody could run them."""
    skipped: int = 0
    """Slots at which the run before was not over yet."""
    task: str = ""
    """The task of the last slot that ran."""

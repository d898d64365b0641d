"""What people and programs may ask of tasks: the port between API and engine.

Reads change nothing. Every method raises the errors of `kernel/errors.py`: NotFound for a task, kind or
schedule nobody knows, BadState for a right word at the wrong moment, Retryable while the store is away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Protocol

from pydantic import Field

from phoenix_orch.rollout.spec import Model
from phoenix_orch.tasks.record import LogEntry, State, TaskRecord
from phoenix_orch.tasks.spec import TaskSpec

MOST_LISTED = 500


class RunRequest(Model):
    """A task that somebody wants."""

    kind: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    target: str = ""
    key: str | None = None
    """Of all tasks with one key at most one is active; left out: as the kind says."""
    after: datetime | None = None
    """Not before this moment; left out: at once."""
    reason: str = ""


class TaskPage(Model):
    """Tasks, newest first."""

    items: list[TaskRecord]
    next: str = ""
    """Give it as `before` for the next page; empty on the last one."""


class ScheduleView(Model):
    """A schedule with what has become of it."""

    name: str
    timing: str
    kind: str
    paused: bool
    next: datetime | None
    """When it runs next; None while it is paused."""
    last: datetime | None
    """The slot that ran last; None before the first."""
    runs: int
    missed: int
    """Slots that passed while nobody could run them."""
    skipped: int
    """Slots at which the run before was not over yet."""
    task: str
    """The task of the last slot that ran."""


class Tasks(Protocol):
    async def kinds(self) -> list[TaskSpec]:
        """What can be run, by name."""
        ...

    async def page(self, *, state: State | None, kind: str | None, before: str, limit: int) -> TaskPage: ...

    async def show(self, id: str) -> TaskRecord: ...  # noqa: A002 - the field's word

    async def run(self, request: RunRequest, *, actor: str, dry_run: bool = False) -> TaskRecord:
        """Have it done: a new task, or the one with the same key that is active already."""
        ...

    async def cancel(self, id: str, *, actor: str) -> TaskRecord:  # noqa: A002
        """End it. What runs gets time to clean up first: its record says so until then."""
        ...

    async def retry(self, id: str, *, actor: str) -> TaskRecord:  # noqa: A002
        """Begin anew what failed, was cancelled or is dead."""
        ...

    async def logs(self, id: str, *, after: str = "", limit: int = 1000) -> list[LogEntry]:  # noqa: A002
        """What it said behind the entry `after`, oldest first."""
        ...

    def follow(self, id: str, *, after: str = "") -> AsyncIterator[LogEntry]:  # noqa: A002
        """Every entry behind `after`, as it comes; ends with the one that says that the task is over."""
        ...

    async def schedules(self) -> list[ScheduleView]: ...

    async def schedule(self, name: str) -> ScheduleView: ...

    async def pause(self, name: str, *, actor: str) -> ScheduleView: ...

    async def resume(self, name: str, *, actor: str) -> ScheduleView: ...

    async def run_schedule(self, name: str, *, actor: str) -> TaskRecord:
        """Run what a schedule runs, now and besides."""
        ...

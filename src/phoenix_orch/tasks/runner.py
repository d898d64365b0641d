"""What one worker does with the tasks that it has taken.

The store says who may run a task; the runner keeps that word alive with a sign of life for each task,
several times a lease, and writes how it ended. When the store goes away, tasks that run go on, and what they
end with is written when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from phoenix_orch.kernel.errors import NotFound, Retryable, Terminal
from phoenix_orch.observability import metrics
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.security import acting
from phoenix_orch.security.acting import Caller
from phoenix_orch.security.rights import Kind, Principal
from phoenix_orch.tasks.attempt import Attempt, Stop
from phoenix_orch.tasks.context import TaskContext
from phoenix_orch.tasks.measuring import measured
from phoenix_orch.tasks.outcome import Buried, Outcome, settle
from phoenix_orch.tasks.record import ENDED, State, TaskRecord
from phoenix_orch.tasks.registry import Registry
from phoenix_orch.tasks.spec import Retries
from phoenix_orch.tasks.store import TaskStore

_AGAIN = 0.5
"""Seconds until a write is tried again that the store did not take."""
_BEATS = 4
"""Signs of life in one lease."""

_TROUBLE = frozenset({State.FAILED, State.DEAD, State.RETRYING})

_log = structlog.get_logger("phoenix.tasks")


@dataclass(slots=True)
class _Running:
    context: TaskContext
    attempt: Attempt | None = None


class Runner:
    """Runs tasks under one name, each from `begin` to the word of how it ended."""

    def __init__(self, store: TaskStore, registry: Registry, *, lease: timedelta) -> None:
        self._store = store
        self._registry = registry
        self._lease = lease
        self._running: dict[str, _Running] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._draining = False
        self._faults = Faults(_log)

    @property
    def running(self) -> list[TaskRecord]:
        return [running.context.record for running in self._running.values()]

    def begin(self, record: TaskRecord, freed: Callable[[], None]) -> None:
        """Run a task that is ours. `freed` is called once, when its function has ended."""
        running = self._running.get(record.id)
        if running is not None:  # this worker was taken for dead, and now has again what it still runs
            running.context.record = record
            freed()
            return
        running = _Running(TaskContext(record, self._store, deadline=datetime.max.replace(tzinfo=UTC)))
        self._running[record.id] = running
        work = asyncio.create_task(self._run(running, freed), name=f"task {record.kind} {record.id}")
        self._work.add(work)
        work.add_done_callback(self._work.discard)

    async def _run(self, running: _Running, freed: Callable[[], None]) -> None:
        record = running.context.record
        acting.current.set(_on_behalf(record))
        try:
            with measured(record) as span:
                try:
                    outcome, retries = await self._attempt(running)
                finally:
                    freed()  # the word of how it ended goes to the store together with the next look
                settled = await self._settle(running, retries, outcome) if outcome is not None else None
                if settled in _TROUBLE:
                    span.fail(settled)
        finally:
            del self._running[record.id]

    async def _attempt(self, running: _Running) -> tuple[Outcome | None, Retries]:
        try:
            kind = self._registry.get(running.context.record.kind)
        except NotFound as error:
            return Buried(str(error)), Retries()
        running.context.deadline = datetime.now(UTC) + kind.spec.deadline
        running.attempt = Attempt(kind, running.context)
        if self._draining:
            running.attempt.stop(Stop.DRAIN)
        return await running.attempt.run(), kind.spec.retries

    async def _settle(self, running: _Running, retries: Retries, outcome: Outcome) -> State | None:
        """Write how it ended, however long the store is away.

        The state it has now; None where it was no longer ours.
        """
        while True:
            record = running.context.record
            settled = settle(record, retries, outcome, datetime.now(UTC))
            try:
                ours = await self._store.settle(record, settled)
                break
            except Retryable as error:
                self._faults.tell("settle", error=error)
                await asyncio.sleep(_AGAIN)
        self._faults.mended("settle")
        if not ours:
            _log.warning("what a task ended with is not heard: another worker has it", task=record.id)
            return None
        if settled.state in ENDED:
            metrics.TASKS.labels(record.kind, settled.state.value).inc()
        if settled.state in _TROUBLE:
            _log.warning(
                f"task {settled.state}", task=record.id, kind=record.kind, problem=settled.fields["error"]
            )
        return settled.state

    # -- alive -----------------------------------------------------------------------------------------

    async def keep_alive(self) -> None:
        """Signs of life for everything that runs, until cancelled."""
        while True:
            await asyncio.sleep(self._lease.total_seconds() / _BEATS)
            try:
                await self.say_alive()
            except Retryable as error:
                self._faults.tell("signs of life", error=error)
            else:
                self._faults.mended("signs of life")

    async def say_alive(self) -> None:
        """One sign of life for everything that runs. Raises Retryable."""
        fences = {task: running.context.record.fence for task, running in self._running.items()}
        for task, why in (await self._store.beat(fences)).items():
            await self._stop(task, Stop(why), fences[task])

    async def cancel(self, id: str) -> None:  # noqa: A002 - the field's word
        """Stop what somebody wants cancelled, if it runs here. Raises Retryable."""
        running = self._running.get(id)
        if running is not None:
            await self._stop(id, Stop.CANCEL, running.context.record.fence)

    async def _stop(self, id: str, why: Stop, fence: int) -> None:  # noqa: A002
        """Stop a task, unless it has ended, or was taken anew since its claim with this fence."""
        running = self._running.get(id)
        if running is None or running.context.record.fence != fence:
            return
        if why is Stop.CANCEL and not running.context.record.cancelling:
            with contextlib.suppress(NotFound, Terminal):  # it is stopped, whoever wanted that
                found = await self._store.get(id)
                running.context.record = running.context.record.model_copy(
                    update={"cancelling": found.cancelling}
                )
        if running.attempt is not None:
            running.attempt.stop(why)

    async def drain(self, grace: timedelta) -> None:
        """Let what runs end, for a time; then put it back for other workers."""
        self._draining = True
        if self._work:
            await asyncio.wait(set(self._work), timeout=grace.total_seconds())
        for running in list(self._running.values()):
            if running.attempt is not None:
                running.attempt.stop(Stop.DRAIN)
        if self._work:
            await asyncio.wait(set(self._work))


def _on_behalf(record: TaskRecord) -> Caller:
    """Whom the task acts for; without any of their rights, which were asked for when it was wanted."""
    return Caller(Principal(record.actor, Kind.USER), record.request_id, address="")

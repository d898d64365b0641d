"""What one worker does with the tasks that are brought to it.

The store says who may run a task; the runner keeps that word alive with a sign of life for each task,
several times a lease, and writes how it ended. A delivery only starts it: when the queue loses its server,
tasks that run go on, and what they end with is written when the server is back.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from phoenix_orch.kernel.errors import NotFound, Retryable
from phoenix_orch.observability import metrics
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.security import acting
from phoenix_orch.security.acting import Caller
from phoenix_orch.security.rights import Kind, Principal
from phoenix_orch.tasks.attempt import Attempt, Stop
from phoenix_orch.tasks.context import TaskContext
from phoenix_orch.tasks.delivery import Delivery
from phoenix_orch.tasks.measuring import measured
from phoenix_orch.tasks.outcome import Buried, Outcome, settle
from phoenix_orch.tasks.record import ENDED, State, TaskRecord
from phoenix_orch.tasks.registry import Registry
from phoenix_orch.tasks.spec import Retries
from phoenix_orch.tasks.store import Blocked, Delivered, Gone, Held, TaskStore

_AGAIN = 0.5
"""Seconds until a write is tried again that the store did not take."""
_BEATS = 4
"""Signs of life in one lease."""

_TROUBLE = frozenset({State.FAILED, State.DEAD, State.RETRYING})

_log = structlog.get_logger("phoenix.tasks")


@dataclass(slots=True)
class _Running:
    context: TaskContext
    attempt: Attempt | None
    left: asyncio.Event
    """Whoever waits for it need not any longer: its function has ended, or the queue has to be let go."""


class Runner:
    """Runs tasks under one name. `handle` is given ids by any number of queues at once."""

    def __init__(
        self, store: TaskStore, delivery: Delivery, registry: Registry, *, name: str, lease: timedelta
    ) -> None:
        self._store = store
        self._delivery = delivery
        self._registry = registry
        self._name = name
        self._lease = lease
        self._running: dict[str, _Running] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._draining = False
        self._away = False
        """The store does not answer: queues are let go, so that they can connect again."""
        self._faults = Faults(_log)

    @property
    def running(self) -> list[TaskRecord]:
        return [running.context.record for running in self._running.values()]

    async def handle(self, id: str) -> None:  # noqa: A002 - the field's word
        """Run the task, if it is ours to run, and come back when its function has ended, or when the store
        goes away.

        Raises Retryable.
        """
        if self._away:
            raise Retryable("the store of tasks is away")
        running = self._running.get(id) or await self._take(id)
        if running is not None:
            await running.left.wait()

    async def _take(self, id: str) -> _Running | None:  # noqa: A002
        match await self._store.claim(id, self._name, self._lease):
            case Held(left, priority):
                await self._delivery.deliver([Delivered(id, priority)], datetime.now(UTC) + left)
                return None
            case Gone(woken, kind, outcome):
                if outcome:
                    metrics.TASKS.labels(kind, outcome).inc()
                await self._delivery.deliver(woken)
                return None
            case Blocked():
                return None
            case taken:
                return self._begin(taken.record)

    def _begin(self, record: TaskRecord) -> _Running:
        context = TaskContext(record, self._store, deadline=datetime.max.replace(tzinfo=UTC))
        running = _Running(context, None, asyncio.Event())
        self._running[record.id] = running
        work = asyncio.create_task(self._run(running), name=f"task {record.kind} {record.id}")
        self._work.add(work)
        work.add_done_callback(self._work.discard)
        return running

    async def _run(self, running: _Running) -> None:
        record = running.context.record
        acting.current.set(_on_behalf(record))
        try:
            with measured(record) as span:
                outcome, retries = await self._attempt(running)
                running.left.set()  # if nobody hears how it ended, its missing signs of life tell
                settled = await self._settle(running, retries, outcome) if outcome is not None else None
                if settled in _TROUBLE:
                    span.fail(settled)
        finally:
            del self._running[record.id]
            running.left.set()

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
        """Write how it ended, however long the store is away; then bring what follows from it.

        The state it has now; None where it was no longer ours.
        """
        record = running.context.record
        settled = settle(record, retries, outcome, datetime.now(UTC))
        while True:
            try:
                woken = await self._store.settle(record, settled)
                break
            except Retryable as error:
                self._faults.tell("settle", error=error)
                await asyncio.sleep(_AGAIN)
        self._faults.mended("settle")
        if woken is None:
            _log.warning("what a task ended with is not heard: another worker has it", task=record.id)
            return None
        if settled.state in ENDED:
            metrics.TASKS.labels(record.kind, settled.state.value).inc()
        if settled.state in _TROUBLE:
            _log.warning(
                f"task {settled.state}", task=record.id, kind=record.kind, problem=settled.fields["error"]
            )
        with contextlib.suppress(Retryable):  # the sweep brings it
            await self._delivery.deliver(woken)
            if settled.due is not None:
                await self._delivery.deliver([Delivered(record.id, record.priority)], settled.due)
        return settled.state

    # -- alive -----------------------------------------------------------------------------------------

    async def keep_alive(self) -> None:
        """Signs of life for everything that runs, until cancelled."""
        while True:
            await asyncio.sleep(self._lease.total_seconds() / _BEATS)
            fences = {task: running.context.record.fence for task, running in self._running.items()}
            try:
                stop = await self._store.beat(fences)
            except Retryable as error:
                self._faults.tell("signs of life", error=error)
                self._let_go()
                continue
            self._faults.mended("signs of life")
            self._away = False
            for id, why in stop.items():  # noqa: A001
                await self._stop(id, Stop(why))

    def _let_go(self) -> None:
        self._away = True
        for running in self._running.values():
            running.left.set()
            running.left = asyncio.Event()

    async def hear_cancellations(self) -> None:
        """Cancel what somebody wants cancelled, at once, until cancelled itself."""
        while True:
            with contextlib.suppress(Retryable):  # signs of life tell the same, later
                async for id in self._store.cancellations(silence=1.0):  # noqa: A001
                    if id in self._running:
                        await self._stop(id, Stop.CANCEL)
            await asyncio.sleep(_AGAIN)

    async def _stop(self, id: str, why: Stop) -> None:  # noqa: A002
        running = self._running.get(id)
        if running is None:
            return
        if why is Stop.CANCEL and not running.context.record.cancelling:
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

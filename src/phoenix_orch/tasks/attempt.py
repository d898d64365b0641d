"""One attempt at a task: its function runs until it ends, is cancelled, or its time is over.

Whatever stops it, it is cancelled as asyncio cancels: its `finally` runs, for a bounded time.
"""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from enum import StrEnum
from typing import Any

import structlog
from pydantic import BaseModel

from phoenix_orch.kernel.errors import Invalid, PhoenixError, Terminal
from phoenix_orch.kernel.masking import masked_assignments, told
from phoenix_orch.tasks.context import TaskContext
from phoenix_orch.tasks.outcome import Cancelled, Failed, Outcome, PutBack, Succeeded
from phoenix_orch.tasks.registry import TaskKind

LARGEST_RESULT = 256 * 1024
"""Bytes of JSON."""

_log = structlog.get_logger("phoenix.tasks")


class Stop(StrEnum):
    """Why an attempt is stopped from outside."""

    CANCEL = "cancel"
    DRAIN = "drain"
    """Its worker ends."""
    LOST = "lost"
    """Another worker has the task."""


class Attempt:
    """Runs once. `stop` may be called at any time, and only the first word counts."""

    def __init__(self, kind: TaskKind, context: TaskContext) -> None:
        self._kind = kind
        self._context = context
        self._stopped: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()

    def stop(self, why: Stop) -> None:
        if not self._stopped.done():
            self._stopped.set_result(why)

    async def run(self) -> Outcome | None:
        """How it ended; None when the task is no longer ours."""
        spec = self._kind.spec
        work = asyncio.ensure_future(_contained(self._kind, self._context))
        self._context.when_lost = lambda: self.stop(Stop.LOST)
        try:
            ends: set[asyncio.Future[Any]] = {work, self._stopped}
            await asyncio.wait(
                ends,
                timeout=spec.deadline.total_seconds(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if work.done():
                return _ended(work)
            why = self._stopped.result() if self._stopped.done() else None
            in_time = await self._end(work, spec.cleanup)
        finally:
            work.cancel()  # nothing, unless this attempt itself is cancelled
        late = "" if in_time else f"; its clean-up did not end within {spec.cleanup.total_seconds():g} s"
        match why:
            case Stop.LOST:
                return None
            case Stop.DRAIN:
                return PutBack()
            case Stop.CANCEL:
                return Cancelled(self._context.record.cancelling + late)
            case None:
                return Failed(f"not done within its deadline of {spec.deadline.total_seconds():g} s{late}")

    async def _end(self, work: asyncio.Future[BaseModel | None], cleanup: timedelta) -> bool:
        """Cancel it, and let it put things in order. Whether it did in time; later is too late: it is left
        to itself."""
        self._context.cancelled.set()
        work.cancel()
        await asyncio.wait({work}, timeout=cleanup.total_seconds())
        if work.done():
            if not work.cancelled() and (error := work.exception()) is not None:
                _log.warning("a task failed in its clean-up", task=self._context.id, problem=_problem(error))
            return True
        work.add_done_callback(_heard)
        _log.error("a task does not end", task=self._context.id, kind=self._kind.spec.kind)
        return False


async def _contained(kind: TaskKind, context: TaskContext) -> BaseModel | None:
    """Run the function. Asyncio ends the whole loop, and Phoenix with it, for a task that wants to exit."""
    try:
        return await kind.run(context)
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"it wanted to end the worker: {_problem(error)}") from None


def _heard(work: asyncio.Future[BaseModel | None]) -> None:
    """Take what it raised at last, which nobody waits for."""
    if not work.cancelled():
        work.exception()


def _ended(work: asyncio.Future[BaseModel | None]) -> Outcome:
    if work.cancelled():
        return Failed("it cancelled itself")
    error = work.exception()
    if error is not None:
        return Failed(_problem(error), again=not isinstance(error, Invalid | Terminal))
    return _result(work.result())


def _result(result: BaseModel | None) -> Outcome:
    if result is None:
        return Succeeded()
    if not isinstance(result, BaseModel):
        return Failed(f"its result is a {type(result).__name__}, and no pydantic model", again=False)
    try:
        found = json.loads(result.model_dump_json())
        size = len(json.dumps(found, ensure_ascii=False).encode())
    except Exception as error:  # noqa: BLE001 - what somebody else's model does when it is written
        return Failed(f"its result cannot be kept: {_problem(error)}", again=False)
    if size > LARGEST_RESULT:
        return Failed(f"its result has {size:,} bytes, at most {LARGEST_RESULT:,} are kept", again=False)
    return Succeeded(found)


def _problem(error: BaseException) -> str:
    """What went wrong, fit to be kept."""
    if isinstance(error, PhoenixError):
        return told(masked_assignments(str(error)))
    return told(
        masked_assignments(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    )

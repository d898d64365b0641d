"""How an attempt ended, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, assert_never

from phoenix_orch.tasks.record import MOVES, Move, State, TaskRecord
from phoenix_orch.tasks.spec import Retries, back_off


@dataclass(frozen=True, slots=True)
class Succeeded:
    result: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    error: str
    again: bool = True
    """Another attempt may help."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    by: str = ""


@dataclass(frozen=True, slots=True)
class PutBack:
    """The worker ends before the task does."""


@dataclass(frozen=True, slots=True)
class Buried:
    error: str


Outcome = Succeeded | Failed | Cancelled | PutBack | Buried


@dataclass(frozen=True, slots=True)
class Settled:
    """The next state, and what is written with it."""

    state: State
    due: datetime | None = None
    """When it may begin again; None for what is over."""
    fields: dict[str, Any] = field(default_factory=dict)


def settle(record: TaskRecord, retries: Retries, outcome: Outcome, now: datetime) -> Settled:
    """What becomes of a running task whose attempt ended like this.

    `now`: wall time. A task that somebody wants cancelled is cancelled, however its attempt ended, unless
    it succeeded; nobody waits for a second attempt of it.
    """
    if record.cancelling and isinstance(outcome, Failed | PutBack):
        outcome = Cancelled(record.cancelling)
    match outcome:
        case Succeeded(result):
            return _ended(Move.SUCCEED, result=result, progress=1.0)
        case Failed(error, again):
            if not again or record.attempt >= record.attempts:
                return _ended(Move.FAIL, error=error)
            due = now + back_off(retries, record.attempt, record.id)
            return Settled(MOVES[Move.RETRY][1], due, {"error": error})
        case Cancelled(by):
            return _ended(Move.CANCEL, error=f"cancelled by {by}" if by else "cancelled")
        case PutBack():
            return Settled(MOVES[Move.PUT_BACK][1], now, {"attempt": record.attempt - 1})
        case Buried(error):
            return _ended(Move.BURY, error=error)
        case _ as never:
            assert_never(never)


def _ended(move: Move, **fields: Any) -> Settled:
    return Settled(MOVES[move][1], None, fields)

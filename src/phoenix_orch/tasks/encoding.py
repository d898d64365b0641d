"""Records, log entries and states of schedules as the hashes and streams of Redis hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from phoenix_orch.tasks.record import LogEntry, LogKind, ScheduleState, State, TaskRecord
from phoenix_orch.tasks.spec import TaskSpec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENTS = frozenset({"slot", "created", "due", "started", "ended"})
_NUMBERS = frozenset({"attempt", "attempts", "deaths", "fence"})
_OBJECTS = frozenset({"arguments", "result"})
_FIELDS = frozenset(TaskRecord.model_fields)


def milliseconds(moment: datetime) -> int:
    """Whole milliseconds since 1970."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def moment(milliseconds: float) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


def new_fields(record: TaskRecord, spec: TaskSpec) -> dict[str, str]:
    """What a new task's hash holds from the beginning, besides key, state, due and priority. What is empty is
    left out: of 28 fields some 12 are sent and kept."""
    found = {
        **fields(record.model_dump(exclude={"key", "state", "due", "priority"}, by_alias=False)),
        "limit": str(spec.limit or ""),
        "limit_per_target": str(spec.limit_per_target or ""),
        "deaths_allowed": str(spec.deaths),
        "keep": str(spec.keep // timedelta(milliseconds=1)),
    }
    return {name: text for name, text in found.items() if text}


def fields(values: Mapping[str, Any]) -> dict[str, str]:
    """Values by the names of the record's fields; an empty text stands for None."""
    return {name: _text(name, value) for name, value in values.items()}


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in _MOMENTS:
        return str(milliseconds(value))
    if name in _OBJECTS:
        return json.dumps(value, ensure_ascii=False)
    return repr(value) if isinstance(value, float) else str(value)


def record(found: Mapping[str, str]) -> TaskRecord:
    """Raises ValueError for what is no record."""
    return TaskRecord.model_validate(
        {name: _value(name, text) for name, text in found.items() if name in _FIELDS}
    )


def _value(name: str, text: str) -> Any:
    if name in _MOMENTS:
        return moment(int(text)) if text else None
    if name in _OBJECTS:
        return json.loads(text) if text else None
    if name in _NUMBERS:
        return int(text)
    return float(text) if name == "progress" else text


def entry(id: str, found: Mapping[str, str]) -> LogEntry:  # noqa: A002 - the stream's word
    kind = LogKind(found["kind"])
    return LogEntry(
        id=id,
        at=moment(int(id.partition("-")[0])),
        kind=kind,
        text=found.get("text", ""),
        state=State(found["state"]) if kind is LogKind.STATE else None,
        progress=float(found["progress"]) if kind is LogKind.PROGRESS else None,
    )


def schedule_state(found: Mapping[str, str]) -> ScheduleState:
    last, slot = found.get("last"), found.get("slot")
    return ScheduleState(
        last=moment(int(last)) if last else None,
        slot=moment(int(slot)) if slot else None,
        paused=found.get("paused") == "1",
        runs=int(found.get("runs", 0)),
        missed=int(found.get("missed", 0)),
        skipped=int(found.get("skipped", 0)),
        task=found.get("task", ""),
    )

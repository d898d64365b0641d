"""Tasks and schedules as text for people. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from phoenix_orch.cli.output import columns
from phoenix_orch.kernel.masking import Masker
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.tasks.port import ScheduleView, TaskPage
from phoenix_orch.tasks.record import LogEntry, LogKind, State, TaskRecord
from phoenix_orch.tasks.spec import TaskSpec


def tasks(page: TaskPage, *, chosen: bool = False) -> str:
    """`chosen`: by state or kind, so that none here is not none at all."""
    header = ("ID", "KIND", "TARGET", "STATE", "DONE", "ATTEMPT", "CREATED", "BY", "MESSAGE")
    rows = [
        (
            record.id,
            record.kind,
            record.target,
            record.state.value,
            f"{record.progress:.0%}",
            f"{record.attempt}/{record.attempts}",
            moment(record.created),
            record.actor,
            record.error or record.text,
        )
        for record in page.items
    ]
    empty = "no task is like that" if chosen else "no tasks; `phoenix task kinds` lists what can be run"
    table = columns(header, rows, empty=empty, whole=False)
    return f"{table}\nThere are more: --limit shows up to 500." if page.next else table


def kinds(specs: Sequence[TaskSpec]) -> str:
    header = ("KIND", "PRIORITY", "DEADLINE", "ATTEMPTS", "SUMMARY")
    rows = [
        (
            spec.kind,
            spec.priority.value,
            format_duration(spec.deadline),
            str(spec.retries.attempts),
            spec.summary,
        )
        for spec in specs
    ]
    return columns(header, rows, empty="no kinds of tasks; `tasks:` in phoenix.yaml makes some")


def task(record: TaskRecord) -> str:
    shown = Masker().data({"arguments": record.arguments, "result": record.result})
    rows = [
        ("kind", record.kind),
        ("target", record.target),
        ("key", record.key),
        (
            "state",
            f"{record.state.value}{f', cancelled by {record.cancelling}' if record.cancelling else ''}",
        ),
        ("message", record.error or record.text),
        ("progress", f"{record.progress:.0%}"),
        ("attempt", f"{record.attempt} of {record.attempts}"),
        ("deaths", str(record.deaths)),
        ("by", record.actor),
        ("reason", record.reason),
        ("schedule", record.schedule),
        ("slot", moment(record.slot)),
        ("created", moment(record.created)),
        ("due", moment(record.due)),
        ("started", moment(record.started)),
        ("ended", moment(record.ended)),
        ("worker", record.worker),
        ("arguments", json.dumps(shown["arguments"], ensure_ascii=False) if record.arguments else ""),
        ("result", json.dumps(shown["result"], ensure_ascii=False) if record.result else ""),
    ]
    return columns(("TASK", record.id), [row for row in rows if row[1]], empty="")


def schedules(views: Sequence[ScheduleView]) -> str:
    header = ("NAME", "WHEN (UTC)", "KIND", "NEXT", "LAST", "RUNS", "MISSED", "SKIPPED")
    rows = [
        (
            view.name,
            view.timing,
            view.kind,
            "paused" if view.paused else moment(view.next),
            moment(view.last),
            str(view.runs),
            str(view.missed),
            str(view.skipped),
        )
        for view in views
    ]
    return columns(header, rows, empty="no schedules; `schedule` or `every` of a task makes one")


def line(entry: LogEntry, *, time: bool = True) -> str:
    """One entry of a log."""
    at = entry.at.strftime("%H:%M:%S  ") if time else ""
    match entry.kind:
        case LogKind.LOG:
            return f"{at}{entry.text}"
        case LogKind.PROGRESS:
            return f"{at}{entry.progress or 0:.0%} {entry.text}".rstrip()
    state = entry.state or State.QUEUED
    return f"{at}[{state.value}] {entry.text}".rstrip()


def moment(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S") if at is not None else ""

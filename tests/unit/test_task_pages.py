"""What a person reads of tasks while they run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from phoenix_orch.cli.task import follow_task
from phoenix_orch.cli.task_pages import tasks
from phoenix_orch.tasks.port import TaskPage
from phoenix_orch.tasks.record import LogEntry, LogKind, State

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


class Saying:
    """A client whose task says these things and then succeeds."""

    def __init__(self, *entries: dict[str, Any]) -> None:
        self._entries = entries

    def follow_task(self, _: str) -> Iterator[SimpleNamespace]:
        for place, words in enumerate(self._entries):
            entry = LogEntry(id=str(place), at=NOON + timedelta(seconds=place), **words)
            yield SimpleNamespace(data=entry.model_dump(mode="json", by_alias=True))

    def task(self, _: str) -> SimpleNamespace:
        return SimpleNamespace(state=State.SUCCEEDED)


def test_the_same_progress_is_told_once_and_the_same_line_of_a_program_each_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    waiting = {"kind": LogKind.PROGRESS, "progress": 0.0}
    line = {"kind": LogKind.LOG, "text": "again"}
    half = {"kind": LogKind.PROGRESS, "progress": 0.5, "text": "read"}
    assert follow_task(Saying(waiting, waiting, waiting, line, line, half, half), "t") == 0  # type: ignore[arg-type]
    assert capsys.readouterr().out.splitlines() == [
        "12:00:00  0%",
        "12:00:03  again",
        "12:00:04  again",
        "12:00:05  50% read",
    ]


def test_none_of_a_state_is_not_called_none_at_all() -> None:
    assert "phoenix task kinds" in tasks(TaskPage(items=[]))
    assert tasks(TaskPage(items=[]), chosen=True) == "no task is like that"

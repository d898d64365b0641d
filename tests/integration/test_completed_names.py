"""What Tab offers of names that only Phoenix knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from tests.cli_commands import EVERY
from tests.integration.fake_phoenix import NOW, FakeOperations, serving
from tests.integration.no_tasks import NoTasks

from phoenix_orch.cli import completion
from phoenix_orch.tasks.port import ScheduleView, TaskPage
from phoenix_orch.tasks.record import State, TaskRecord
from phoenix_orch.tasks.spec import TaskSpec


class SomeTasks(NoTasks):
    """One of each."""

    async def kinds(self) -> list[TaskSpec]:
        return [TaskSpec(kind="prune")]

    async def page(self, **_: object) -> TaskPage:  # type: ignore[override]
        task = TaskRecord(
            id="t1", kind="prune", key="prune", created=NOW, due=NOW, state=State.FAILED, actor="ida"
        )
        return TaskPage(items=[task])

    async def schedules(self) -> list[ScheduleView]:
        return [
            ScheduleView(
                name="nightly",
                timing="0 3 * * *",
                kind="prune",
                paused=False,
                next=NOW,
                last=None,
                runs=0,
                missed=0,
                skipped=0,
                task="",
            )
        ]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    where = tmp_path_factory.mktemp("d")
    operations = FakeOperations()
    operations.tasks = SomeTasks()
    with serving(operations, where):
        yield where


def offered(path: tuple[str, ...], parameter: str, typed: str = "") -> list[str]:
    command = EVERY[path]
    found = next(one for one in command.params if one.name == parameter)
    return [item.value for item in found.shell_complete(typer.Context(command), typed)]


NAMES = {
    ("rollout", "status"): ("name", "web"),
    ("service", "logs"): ("name", "web"),
    ("task", "show"): ("task", "t1"),
    ("task", "cancel"): ("task", "t1"),
    ("task", "run"): ("kind", "prune"),
    ("task", "schedule", "pause"): ("name", "nightly"),
    ("freeze", "end"): ("name", "year-end"),
}


@pytest.mark.parametrize("path", NAMES, ids=" ".join)
def test_names_are_offered(path, data_dir, monkeypatch):
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(data_dir))
    monkeypatch.setattr(completion, "TIMEOUT", 20.0)
    parameter, name = NAMES[path]
    assert offered(path, parameter) == [name]
    assert offered(path, parameter, name[:1]) == [name]
    assert offered(path, parameter, "nothing") == []


@pytest.mark.parametrize(
    "path", [*NAMES, ("token", "revoke"), ("drill", "show"), ("backup", "show")], ids=" ".join
)
def test_without_a_phoenix_nothing_is_offered_and_nothing_said(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path))
    parameter = NAMES.get(path, ({"token": "id", "drill": "drill", "backup": "backup"}.get(path[0], ""),))[0]
    assert offered(path, parameter) == []
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []

"""phoenix.yaml of an orchestrator in a cluster."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.cluster import file as cluster_file
from phoenix_orch.orchestrator.cluster.file import FollowedFile, destroying, load

pytestmark = pytest.mark.anyio
TEXT = """
api:
  hosts: [phoenix.example]
tasks:
  tidy: {command: [./tidy.sh], schedule: "0 3 * * *"}
  wipe: {command: [./wipe.sh], secondPerson: true}
audit: {retention: 30d}
"""


def test_it_says_tasks_who_gets_in_and_how_long_the_log_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "phoenix.yaml"
    path.write_text(TEXT)
    found = load(path)
    assert found.tasks is not None
    assert found.tasks["tidy"].cwd == str(tmp_path)
    assert destroying(found) == {"wipe"}
    assert destroying(cluster_file.ClusterFile()) == frozenset()
    assert found.audit is not None
    assert found.audit.retention == timedelta(days=30)
    assert found.api.spec().hosts == ("phoenix.example",)


@pytest.mark.parametrize("text", ["services: {}", "api: {listen: ':7007'}", "tasks: [", "[]"])
def test_what_is_not_done_in_a_cluster_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "phoenix.yaml"
    path.write_text(text)
    with pytest.raises(Invalid):
        FollowedFile(path)


def test_none_that_is_there_says_nothing(tmp_path: Path) -> None:
    assert FollowedFile(tmp_path / "phoenix.yaml").held.tasks is None
    assert FollowedFile(None).held.tasks is None


async def test_it_is_read_anew_and_a_wrong_one_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_file, "LOOK", 0.01)
    path = tmp_path / "phoenix.yaml"
    followed = FollowedFile(path)
    running = asyncio.create_task(followed.run())
    try:
        async with asyncio.timeout(20):
            path.write_text(TEXT)
            while not followed.held.tasks:
                await asyncio.sleep(0.01)
            path.write_text("tasks: {tidy: 3}")
            await asyncio.sleep(0.1)
            assert "tidy" in (followed.held.tasks or {})
            path.write_text(TEXT.replace("tidy:", "sweep:"))
            while "sweep" not in (followed.held.tasks or {}):
                await asyncio.sleep(0.01)
            path.unlink()
            while followed.held.tasks:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()

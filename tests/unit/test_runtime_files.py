"""Directories that only their owner may enter, also those that have to be made again."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from phoenix_orch.orchestrator.cluster.backing_up import state_layout
from phoenix_orch.rollout.aborts_by_hand import AbortNote, AbortNotes
from phoenix_orch.runtime.files import make_private, temporary_folder
from phoenix_orch.traffic.route_files import RouteFiles
from phoenix_orch.workload import processes


@pytest.fixture(autouse=True)
def usual_mask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(root: Path) -> set[int]:
    """Of a directory and of every one below it."""
    return {stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*")) if path.is_dir()}


def test_every_level_that_is_missing_is_private(tmp_path: Path) -> None:
    before = stat.S_IMODE(tmp_path.stat().st_mode)
    make_private(tmp_path / "a" / "b" / "c")
    make_private(tmp_path / "a" / "b" / "c")
    assert modes(tmp_path / "a") == {0o700}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == before, "what was there is left as it is"


def test_where_nothing_can_be_written_there_is_still_a_name_for_temporary_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pod that may only read, and takes no backups: the orchestrator of k8s/base did not start there."""

    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    assert temporary_folder() == Path(tempfile.gettempdir())
    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert temporary_folder() == Path("/tmp")
    assert state_layout().root == Path("/tmp/phoenix-state")


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(OSError, match="a"):
        make_private(tmp_path / "a")
    with pytest.raises(OSError, match="a"):
        make_private(tmp_path / "a" / "b")


def note(root: Path) -> None:
    AbortNotes(root / "aborts").write("web", AbortNote(revision="r", at=datetime.now(UTC), weight=5))


def log(root: Path) -> None:
    process = processes.start(("true",), os.environ, root.parent, root / "services" / "web" / "logs" / "l")
    os.waitpid(process.pid, 0)


@pytest.mark.parametrize(
    "write", [lambda root: RouteFiles(root / "router").prepare(), note, log], ids=["routes", "note", "log"]
)
def test_a_data_directory_that_was_removed_is_private_again(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    root = tmp_path / "data"
    write(root)
    shutil.rmtree(root)
    write(root)
    assert modes(root) == {0o700}

"""A lock that is held though its file is removed."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from phoenix_orch.runtime import held_lock
from phoenix_orch.runtime.held_lock import HeldLock, keep_held

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "d" / "phoenix.lock"


@pytest.fixture
def held(path: Path) -> Iterator[HeldLock]:
    path.parent.mkdir()
    lock = HeldLock(path)
    assert lock.take()
    yield lock
    lock.release()


def free(path: Path) -> bool:
    """Somebody else could have it now."""
    other = HeldLock(path)
    taken = other.take()
    other.release()
    return taken


def test_one_at_a_time(path: Path, held: HeldLock) -> None:
    assert not free(path)
    held.release()
    held.release()
    assert free(path)


@pytest.mark.parametrize("what", ["file", "directory", "replaced"])
def test_a_removed_file_is_put_back_before_another_can_have_it(path: Path, held: HeldLock, what: str) -> None:
    assert held.keep()
    if what == "directory":
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    if what == "replaced":
        path.touch()
    assert held.keep()
    assert not free(path)
    held.release()
    assert free(path)


def test_who_was_quicker_has_it(path: Path, held: HeldLock) -> None:
    path.unlink()
    other = HeldLock(path)
    assert other.take()
    assert not held.keep()
    other.release()
    assert held.keep()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_it_is_looked_after_until_cancelled(
    path: Path, held: HeldLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_lock, "LOOK", 0.01)
    directory, away = path.parent, path.parent.with_name("away")
    with capture_logs() as logs:
        keeping = asyncio.create_task(keep_held(held))
        os.unlink(path)  # noqa: PTH108
        await until(path.exists)
        await until(lambda: not free(path))
        directory.rename(away)
        directory.touch()
        await until(lambda: any("not a directory" in entry["event"].lower() for entry in logs))
        os.unlink(directory)  # noqa: PTH108
        await until(path.exists)
        await until(lambda: any(entry["event"] == "works again" for entry in logs))
        assert not free(path)
    keeping.cancel()
    await asyncio.wait([keeping])

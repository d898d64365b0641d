"""Files that others read are written again, and only those."""

from __future__ import annotations

import asyncio
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from phoenix_orch.orchestrator import kept_files
from phoenix_orch.orchestrator.kept_files import keep_files

pytestmark = pytest.mark.anyio


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_file_that_was_lost_torn_or_changed_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_files, "LOOK", 0.01)
    path, nothing = tmp_path / "d" / "phoenix.json", tmp_path / "nothing"
    text: list[str | None] = ["one"]
    with capture_logs() as logs:
        keeping = asyncio.create_task(keep_files({path: lambda: text[0], nothing: lambda: None}))

        def whole() -> bool:
            return path.exists() and path.read_text() == text[0]

        await until(whole)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        path.write_text("on")
        await until(whole)
        shutil.rmtree(path.parent)
        await until(whole)
        path.unlink()
        path.mkdir()  # it cannot be written, which ends nothing
        await until(lambda: any("director" in str(entry) for entry in logs))
        path.rmdir()
        await until(whole)
        path.write_text("two")
        text[0] = "two"  # in one turn, as one who applies writes both
        before = path.stat().st_ino
        await asyncio.sleep(0.05)
        assert path.stat().st_ino == before
        assert not nothing.exists()
    keeping.cancel()
    await asyncio.wait([keeping])

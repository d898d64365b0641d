"""Scratch folders: gone with their block, and with the next one where their owner was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from phoenix_orch.runtime.scratch import scratch, sweep

_CHILD = """
import sys, time
from pathlib import Path
from phoenix_orch.runtime.scratch import scratch
with scratch("one-", Path(sys.argv[1])) as folder:
    (folder / "secret").write_text("x")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_it_is_gone_afterwards_whatever_ends_it(tmp_path: Path):
    def work() -> None:
        with scratch("one-", tmp_path) as folder:
            assert oct(folder.stat().st_mode & 0o777) == "0o700"
            (folder / "deep").mkdir()
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert list(tmp_path.iterdir()) == []


def test_the_next_one_removes_what_a_killed_one_left_and_nothing_that_is_held(tmp_path: Path):
    command = [sys.executable, "-c", _CHILD, str(tmp_path)]
    seen = []
    with scratch("one-", tmp_path) as mine, subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        theirs = Path(child.stdout.readline().decode().strip())
        assert sweep("one-", tmp_path) == []
        child.kill()
        child.wait()
        with scratch("one-", tmp_path, before=seen.append) as third:
            assert seen == [theirs]
            assert sorted(tmp_path.iterdir()) == sorted([mine, third])


def test_what_is_not_ours_stays(tmp_path: Path):
    (tmp_path / "one-file").write_text("x")
    (tmp_path / "one-unheld").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".held").write_text("")
    (tmp_path / "one-link").symlink_to(tmp_path / "elsewhere")
    assert sweep("one-", tmp_path) == []
    assert sweep("one-", tmp_path / "missing") == []

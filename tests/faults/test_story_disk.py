"""A full disk in the middle of a release: nothing advances, and a bad canary still loses its traffic.

The data directory is a small file system of its own, in a mount namespace that only Phoenix sees.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.faults import outcomes
from tests.faults.story import Story, story, until
from tests.faults.story_cases import BAD, GOOD, Ending, Outcome

from phoenix_orch.rollout.status import State

MEGABYTES = 24


def can_mount() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    tried = ("unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt")
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not can_mount(), reason="needs user and mount namespaces (unshare -Urm)"),
]


def on_a_small_disk(directory: Path, checks: object = ()) -> dict[str, object]:
    """Arguments of `story`: Phoenix sees a file system of some megabytes as its data directory."""
    data = directory / "d"
    data.mkdir()
    mount = f'mount -t tmpfs -o size={MEGABYTES}m tmpfs "$0" && exec "$@"'
    return {
        "directory": directory,
        "wrapper": ("unshare", "-Urm", "sh", "-c", mount, str(data)),
        "namespace": True,
        "settings": {"rollout": {"checks": checks}},
    }


def fill(made: Story) -> Path:
    """Take every byte that is left, but those that Phoenix has put aside."""
    filler = made.outside / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return filler


def at_60(made: Story) -> str:
    version = made.begin()
    made.until_view(
        "60 %",
        lambda view: view.rollout.status.state is State.PROGRESSING and view.rollout.status.weight == 60,
    )
    return version


def kept(made: Story, release: str, ending: Ending, at: float) -> None:
    failures = made.users.failures_since(at)
    outcomes.keep(Outcome("disk full", release, "step 2", ending.state, len(failures), 0.0).line())
    assert not failures


def test_a_good_release_waits_for_space(tmp_path: Path) -> None:
    with story(**on_a_small_disk(tmp_path)) as made:
        version, at = at_60(made), time.time()
        filler = fill(made)
        until("the store cannot write", lambda: "valkey is full" in made.log(1000), 20.0)
        assert made.seen().weight in {60, 100}  # nothing but a step that had been proven before
        filler.unlink()
        assert made.ending(version) == GOOD
        kept(made, "good", GOOD, at)


def test_a_bad_canary_loses_its_traffic_on_a_full_disk(tmp_path: Path) -> None:
    mark = tmp_path / "bad"
    command = ["sh", "-c", f"! test -e {mark}"]
    checks = [{"name": "mark", "exec": {"command": command}, "interval": "6s", "threshold": 2}]
    with story(**on_a_small_disk(tmp_path, checks)) as made:
        version, at = at_60(made), time.time()
        filler = fill(made)
        mark.touch()
        until("weight 0 on the data plane", lambda: made.seen().weight == 0, 10.0)
        assert filler.stat().st_size > 0
        filler.unlink()
        assert made.ending(version) == BAD
        cause = made.release(1)[0].cause
        assert cause is not None
        assert cause.trigger == "check/mark"
        kept(made, "bad", BAD, at)

"""A restore of a folder that is killed at any of its steps: the old folder is there, or the new one."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from tests.recovery_outcomes import seen

from phoenix_orch.recovery.restore.files_restore import tidy
from phoenix_orch.recovery.restore.files_verify import described_tree
from phoenix_orch.recovery.sources.archive import Archive

CHILD = '''
"""Restores, and is killed at its call number N of the ones that change the disk."""
import contextlib, io, os, signal, sys
from datetime import UTC, datetime
from pathlib import Path

from phoenix_orch.recovery.restore import swap
from phoenix_orch.recovery.restore.files_restore import restore

number, archive, target, root, way = int(sys.argv[1]), *sys.argv[2:]
left = number


def killed_at(name, real):
    def call(*args, **named):
        global left
        left -= 1
        if left == 0:
            print(name, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **named)
    return call


for name in ("mkdir", "link", "unlink", "symlink", "chmod", "utime", "replace", "rename", "rmdir", "fsync"):
    setattr(os, name, killed_at(name, getattr(os, name)))
swap.exchanged = killed_at("exchange", swap.exchanged if way == "exchange" else lambda *_: False)
source = lambda: contextlib.closing(io.BytesIO(Path(archive).read_bytes()))
restore(source, Path(target), root, now=datetime(2026, 11, 28, 12, tzinfo=UTC))
print("done")
'''


@pytest.mark.slow
@pytest.mark.parametrize("way", ["exchange", "renames"])
def test_killed_at_every_step(tmp_path: Path, way: str) -> None:
    folder = tmp_path / "state"
    (folder / "below").mkdir(parents=True)
    (folder / "a").write_text("new")
    (folder / "below" / "same").hardlink_to(folder / "a")
    (folder / "link").symlink_to("a")
    archive = Archive(folder)
    stored = tmp_path / "volume.tar"
    stored.write_bytes(b"".join(archive))
    root = archive.tally.merkle_root
    new = list(described_tree(folder))
    looks: list[tuple[str, bool]] = []
    for number in itertools.count(1):
        place = tmp_path / f"place-{number}"
        target = place / "data"
        target.mkdir(parents=True)
        (target / "old").write_text("old")
        old = list(described_tree(target))
        words = (sys.executable, "-c", CHILD, str(number), stored, target, root, way)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode in {0, -9}, done.stderr
        if way == "exchange":  # even before anybody cleans up
            assert list(described_tree(target)) in (old, new)
        tidy(target)
        there = list(described_tree(target))
        assert there in (old, new), done.stdout
        looks.append((done.stdout.strip(), there == new))
        beside = {path.name for path in place.iterdir()} - {"data"}
        kept = [name for name in beside if name.startswith(".phoenix-old-data-") and "." not in name[1:]]
        assert len(kept) == (there == new), (done.stdout, beside)
        assert len(beside) == 2 * len(kept), (done.stdout, beside)  # with its expiry
        for name in kept:
            assert list(described_tree(place / name)) == old
        if done.returncode == 0:
            break
    steps = [name for name, _ in looks]
    assert {"mkdir", "utime", "replace", "rename", "exchange", "unlink"} <= set(steps)
    changed = [is_new for _, is_new in looks]
    assert changed == sorted(changed), "old until one step, new from there on"
    assert not changed[0]
    assert changed[-1]
    seen(
        "A restore of a folder",
        "kill -9",
        f"each call that changes the disk ({way})",
        leaves="the old folder, or the new one with the old one beside it",
        then="the next one tidies up and restores",
    )

"""Folders on file systems that keep them still: btrfs and xfs, each in a file of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.debian import program, unpacked, within

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.recovery.restore.files_verify import described_tree
from phoenix_orch.recovery.sources.still import still
from phoenix_orch.recovery.sources.volume_spec import Copy

MAKE = {"btrfs": ("mkfs.btrfs", "btrfs-progs"), "xfs": ("mkfs.xfs", "xfsprogs")}
NOW = datetime(2026, 11, 28, tzinfo=UTC)


@pytest.fixture(params=["btrfs", "xfs"])
def mounted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    kind = request.param
    image, place = tmp_path / "image", tmp_path / "mounted"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(400 * 2**20)
    with contextlib.suppress(Terminal, subprocess.CalledProcessError):
        make = program(*MAKE[kind])
        subprocess.run((make, "-q", image), check=True, capture_output=True, env=_libraries(kind))
        subprocess.run(("mount", "-o", "loop", image, place), check=True, capture_output=True)
    if not place.is_mount():
        pytest.skip(f"no {kind} can be made and mounted here: that takes root and a loop device")
    try:
        yield kind, place
    finally:
        subprocess.run(("umount", place), check=True)


def _libraries(kind: str) -> dict[str, str]:
    root = unpacked((MAKE[kind][1],))
    places = [str(path) for path in root.glob("**/lib/*-linux-gnu")]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(places)}


def fill(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "a").write_bytes(os.urandom(3_000_000))
    (folder / "a").chmod(0o640)
    (folder / "same").hardlink_to(folder / "a")
    (folder / "link").symlink_to("a")
    (folder / "below").mkdir()
    (folder / "below" / "b").write_text("b")
    os.setxattr(folder / "below" / "b", "user.of", b"\xff\0")


def test_a_copy_that_shares_blocks(mounted: tuple[str, Path]) -> None:
    _, place = mounted
    folder = place / "state"
    fill(folder)
    before = list(described_tree(folder))
    with still(folder, Copy.AUTO) as kept:
        assert kept.by is Copy.REFLINK
        (folder / "a").write_bytes(b"changed")
        (folder / "below" / "b").unlink()
        assert list(described_tree(kept.folder)) == before
    assert [path.name for path in place.iterdir()] == ["state"]


def test_what_a_run_that_died_left_is_removed(mounted: tuple[str, Path]) -> None:
    _, place = mounted
    folder = place / "state"
    fill(folder)
    with contextlib.suppress(KeyboardInterrupt), still(folder, Copy.REFLINK):
        (place / ".phoenix-copy-left").mkdir()
        raise KeyboardInterrupt
    with still(folder, Copy.REFLINK) as kept:
        assert {path.name for path in place.iterdir()} == {"state", kept.folder.name}


def test_a_snapshot_of_a_subvolume(mounted: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    kind, place = mounted
    if kind != "btrfs":
        with pytest.raises(Terminal, match="no btrfs subvolume"), still(place, Copy.SNAPSHOT):
            pytest.fail("xfs has none")
        return
    tool = (
        within(unpacked(("btrfs-progs",)), "btrfs")
        if not Path("/usr/bin/btrfs").exists()
        else Path("/usr/bin/btrfs")
    )
    monkeypatch.setenv("LD_LIBRARY_PATH", _libraries(kind)["LD_LIBRARY_PATH"])
    folder = place / "state"
    subprocess.run((tool, "subvolume", "create", folder), check=True, capture_output=True)
    fill(folder)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Terminal, match="no program btrfs"), still(folder, Copy.SNAPSHOT):
        pytest.fail("there is no program")
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/sbin:/usr/bin:/sbin:/bin")
    before = [one for one in described_tree(folder) if one.path != "."]
    with still(folder, Copy.AUTO) as kept:
        assert kept.by is Copy.SNAPSHOT
        (folder / "a").write_bytes(b"changed")
        assert [one for one in described_tree(kept.folder) if one.path != "."] == before
    assert [path.name for path in folder.glob(".phoenix-*")] == []


def test_a_file_system_that_cannot_share_blocks(tmp_path: Path) -> None:
    if _shares(tmp_path):
        pytest.skip("this one can")
    folder = tmp_path / "state"
    fill(folder)
    with pytest.raises(Terminal, match="cannot copy by sharing blocks"), still(folder, Copy.REFLINK):
        pytest.fail("it cannot")
    with still(folder, Copy.AUTO) as kept:
        assert (kept.by, kept.folder) == (Copy.DIRECT, folder)


def _shares(folder: Path) -> bool:
    kind = subprocess.run(("stat", "-f", "-c", "%T", folder), check=True, capture_output=True, text=True)
    return kind.stdout.strip() in {"btrfs", "xfs"}

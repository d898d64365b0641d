"""A folder that does not change while it is read: a snapshot, a copy that shares its blocks, or itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.recovery.sources import reflink
from phoenix_orch.recovery.sources.tree import OURS
from phoenix_orch.recovery.sources.volume_spec import Copy

COPY = f"{OURS}copy-"
_SUBVOLUME_INODE = 256
"""Of the top of every btrfs subvolume."""
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Still:
    folder: Path
    """What to read."""
    by: Copy
    """How it was made; DIRECT where it is the live folder."""


@contextlib.contextmanager
def still(folder: Path, by: Copy) -> Iterator[Still]:
    """The folder as it is now. What is made for it goes with the end of the body.

    Nobody else may copy the same folder meanwhile: what an earlier run left is removed first. Raises Terminal
    where the file system cannot do what is asked for.
    """
    place = _place(folder)
    remove_left(place)
    way = _chosen(folder, place, by)
    if way is Copy.DIRECT:
        yield Still(folder, way)
        return
    copy = place / f"{COPY}{sortable_id(datetime.now(UTC))}"
    try:
        if way is Copy.SNAPSHOT:
            _btrfs("snapshot", "-r", os.fspath(folder), os.fspath(copy))
        else:
            reflink.copy_tree(folder, copy)
        yield Still(copy, way)
    finally:
        _remove(copy)


def remove_left(place: Path) -> None:
    """Remove what a run that died left."""
    for copy in place.glob(f"{COPY}*"):
        _remove(copy)


def lvm_volume(folder: Path) -> str:
    """The LVM volume that the folder is on, as `lvs` knows it; empty where it is on none."""
    found = folder.stat().st_dev
    mapped = Path(f"/sys/dev/block/{os.major(found)}:{os.minor(found)}/dm")
    try:
        if (mapped / "uuid").read_text("ascii").startswith("LVM-"):
            return (mapped / "name").read_text("utf-8").strip()
    except OSError:
        pass
    return ""


def _chosen(folder: Path, place: Path, by: Copy) -> Copy:
    if by in {Copy.AUTO, Copy.SNAPSHOT} and _is_subvolume(folder):
        if shutil.which("btrfs") is not None:
            return Copy.SNAPSHOT
        if by is Copy.SNAPSHOT:
            raise Terminal(
                f"there is no program btrfs to take a snapshot of {folder}", remedy="install btrfs-progs"
            )
    if by is Copy.SNAPSHOT:
        logical = lvm_volume(folder)
        raise Terminal(
            f"{folder} is no btrfs subvolume, of which a snapshot could be taken",
            remedy=f"it is on the LVM volume {logical}: take and mount a snapshot of that in a hook `before`,"
            " remove it in `after`, and name the mounted folder"
            if logical
            else "choose `copyBy: auto`",
        )
    if by is Copy.DIRECT:
        return by
    if reflink.can(place):
        return Copy.REFLINK
    if by is Copy.REFLINK:
        raise Terminal(
            f"the file system of {folder} cannot copy by sharing blocks; xfs and btrfs can",
            remedy="choose `copyBy: auto`",
        )
    return Copy.DIRECT


def _place(folder: Path) -> Path:
    """Where a copy goes: beside the folder, or into it where that is another file system or not ours."""
    beside = folder.resolve().parent
    same = beside.stat().st_dev == folder.stat().st_dev
    return beside if same and os.access(beside, os.W_OK) and not _is_subvolume(folder) else folder


def _is_subvolume(folder: Path) -> bool:
    if folder.stat().st_ino != _SUBVOLUME_INODE:
        return False
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    inside, kind = "", ""
    for mount in mounts:
        fields, _, rest = mount.partition(" - ")
        point = fields.split()[4]
        if len(point) >= len(inside) and folder.resolve().is_relative_to(point):
            inside, kind = point, rest.split()[0]
    return kind == "btrfs"


def _remove(copy: Path) -> None:
    if not copy.exists():
        return
    if _is_subvolume(copy) and shutil.which("btrfs") is not None:
        _btrfs("delete", os.fspath(copy))
        return
    shutil.rmtree(copy)


def _btrfs(*words: str) -> None:
    try:
        subprocess.run(
            ("btrfs", "subvolume", *words), check=True, capture_output=True, timeout=_PATIENCE, text=True
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines()
        raise Terminal(
            f"btrfs subvolume {words[0]} failed: {said[-1] if said else 'it said nothing'}",
            remedy="let Phoenix do that, or choose `copyBy: reflink`",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Terminal(f"btrfs subvolume {words[0]} was not done in {_PATIENCE:g} s") from error

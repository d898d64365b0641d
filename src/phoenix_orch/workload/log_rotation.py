"""Keep logs small. Writers append to a file they opened once, so a full log is copied and cut, not moved."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

PIECE = 1024 * 1024
_ROTATED = re.compile(r"(?P<instance>.+)\.log(\.\d+)?")


def rotate(log: Path, size: int, keep: int) -> bool:
    """When `log` is larger than `size` bytes, its content becomes `log.1`, that one `log.2` and so on.

    The copy goes on until nothing is left to copy, then the file is cut: what is written within that
    instant, some microseconds, is the only thing that can be lost. Raises OSError.
    """
    try:
        if log.stat().st_size <= size:
            return False
    except FileNotFoundError:
        return False
    for number in range(keep - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    copy = log.with_name(f"{log.name}.1.part")
    with log.open("r+b", buffering=0) as source, copy.open("wb", buffering=0) as target:
        while piece := source.read(PIECE):
            target.write(piece)
        os.ftruncate(source.fileno(), 0)
    copy.replace(log.with_name(f"{log.name}.1"))
    return True


def forget_logs(directory: Path, present: Iterable[str], keep: int) -> None:
    """Remove logs of instances that have gone, except those of the `keep` that wrote last."""
    present = set(present)
    gone: dict[str, list[Path]] = {}
    for path in directory.glob("*.log*"):
        match = _ROTATED.fullmatch(path.name)
        if match and match["instance"] not in present:
            gone.setdefault(match["instance"], []).append(path)
    newest = sorted(gone.values(), key=lambda paths: max(p.stat().st_mtime for p in paths), reverse=True)
    for paths in newest[keep:]:
        for path in paths:
            path.unlink(missing_ok=True)

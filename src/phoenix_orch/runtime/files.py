"""Files and directories of the data directory: for their owner alone, and looked after.

What lies in them names processes and holds secrets.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

Stamp = tuple[int, int, int]


def temporary_folder() -> Path:
    """Where temporary files go. Where nobody can write to any such place, as in a pod that may only read, the
    usual one: that is no fault of who never writes there, and who does is told."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path("/tmp")  # noqa: S108 - nothing is made here


def make_private(directory: Path) -> None:
    """Make the directory, and every one above it that is missing, with mode 0700. Idempotent.

    What is there keeps its mode. `Path.mkdir(parents=True)` gives the mode to the last one alone: a data
    directory that was removed under a running Phoenix came back open to everybody. Raises OSError.
    """
    if not directory.parent.exists():
        make_private(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)


def stamp(path: Path) -> Stamp | None:
    """Another one when somebody has written, torn or replaced the file; None when it cannot be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns

"""Directories that only their owner may enter: what lies in them names processes and holds secrets."""

from __future__ import annotations

from pathlib import Path


def make_private(directory: Path) -> None:
    """Make the directory, and every one above it that is missing, with mode 0700. Idempotent.

    What is there keeps its mode. `Path.mkdir(parents=True)` gives the mode to the last one alone: a data
    directory that was removed under a running Phoenix came back open to everybody. Raises OSError.
    """
    if not directory.parent.exists():
        make_private(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)

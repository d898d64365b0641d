"""Files that others read while Phoenix runs: written again when somebody deletes or tears them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from phoenix_orch.orchestrator.layout import write_whole
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.runtime.files import Stamp, make_private, stamp

LOOK = 1.0
"""Seconds between two looks."""

_log = structlog.get_logger("phoenix")


async def keep_files(texts: Mapping[Path, Callable[[], str | None]]) -> None:
    """Have each file hold its text, until cancelled. A text of None: nothing is written there.

    Text and file are compared in one turn of the event loop, in which nobody else writes either.
    """
    faults, known = Faults(_log), dict[Path, Stamp | None]()
    while True:
        await asyncio.sleep(LOOK)
        for path, text in texts.items():
            if (found := stamp(path)) is not None and known.get(path) == found:
                continue
            try:
                _keep(path, text())
            except OSError as error:
                faults.tell(path.name, error=error)
            else:
                faults.mended(path.name)
                known[path] = stamp(path)


def _keep(path: Path, text: str | None) -> None:
    if text is None or _holds(path, text):
        return
    make_private(path.parent)
    write_whole(path, text)
    _log.warning("a file was lost or changed by somebody; it was written again", file=str(path))


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False

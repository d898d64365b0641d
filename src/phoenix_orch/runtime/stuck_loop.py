"""Say when the event loop stands still, and where.

Router control, API and probes of Phoenix share one loop. Whoever blocks it stops all of them, and nothing
in it can tell; a thread can. It tells files, lines and functions and no values, so no secret either.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import structlog

from phoenix_orch.runtime.loop_beat import LoopBeat

LIMIT = 5.0
"""Seconds without a beat after which the loop is said to stand still."""
_LOOK = 0.5
_FRAMES = 12
"""Innermost places that are told."""
_WAITING = "selectors.py"
"""Where a loop stands that has nothing to do: the process was stopped as a whole, and has just gone on."""

_log = structlog.get_logger("phoenix")


@contextlib.contextmanager
def stuck_loop_told(limit: float = LIMIT) -> Iterator[None]:
    """Watch the running event loop while the body runs in it. `limit` in seconds."""
    over = threading.Event()
    with LoopBeat() as beat:
        watch = threading.Thread(
            target=_watch, args=(beat, threading.get_ident(), limit, over), name="stuck loop", daemon=True
        )
        watch.start()
        try:
            yield
        finally:
            over.set()


def _watch(beat: LoopBeat, thread: int, limit: float, over: threading.Event) -> None:
    told = False
    while not over.wait(min(_LOOK, limit / 2)):
        still = time.monotonic() - beat.at
        if still < limit:
            if told:
                _log.info("the event loop runs again")
            told = False
        elif not told and (places := _places(sys._current_frames().get(thread))):  # noqa: SLF001 - the only way
            _log.error("the event loop stands still", seconds=round(still, 1), at=places)
            told = True


def _places(frame: FrameType | None) -> list[str]:
    """`file:line function`, the innermost first; none for a loop that only waits."""
    if frame is None or Path(frame.f_code.co_filename).name == _WAITING:
        return []
    found: list[str] = []
    while frame is not None and len(found) < _FRAMES:
        found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return found

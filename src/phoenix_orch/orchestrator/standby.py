"""One of each component at a time: the first holds a lock of the data directory, others wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from phoenix_orch.observability import metrics
from phoenix_orch.runtime.held_lock import HeldLock, keep_held

RETRY_PAUSE = 0.25
"""Seconds between two tries for the lock. The kernel frees it when its holder dies, however it dies."""

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def leading(path: Path, component: str) -> AsyncIterator[None]:
    """Wait until this process is the one that runs `component`, and be it while the body runs."""
    lock, told = HeldLock(path), False
    while not lock.take():
        if not told:
            _log.info("standing by; another process does the work", component=component)
            told = True
        await asyncio.sleep(RETRY_PAUSE)
    _log.info("working", component=component)
    keeping = asyncio.create_task(keep_held(lock), name=f"lock of {component}")
    try:
        with metrics.leading(component):
            yield
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        lock.release()


def is_led(path: Path) -> bool:
    """Somebody does the work of the component whose lock this is."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False

"""End processes that bear our mark and belong to no instance, so that no orphan stays."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

import structlog

from phoenix_orch.workload import processes
from phoenix_orch.workload.processes import Marked

_AFTER_KILL = 5.0
"""Seconds after SIGKILL; what is there then waits for hardware, and there is nothing left to do."""
_log = structlog.get_logger("phoenix.workload")


async def end(strays: Sequence[Marked], grace: float) -> None:
    """SIGTERM now, SIGKILL after `grace` seconds; returns when they have ended."""
    for stray in strays:
        _log.warning(
            "a process that belongs to nobody is ended", pid=stray.process.pid, instance=stray.instance
        )
        processes.signal_process(stray.process, signal.SIGTERM)
    if await _ended(strays, grace):
        return
    for stray in strays:
        processes.signal_process(stray.process, signal.SIGKILL)
    if not await _ended(strays, _AFTER_KILL):
        _log.error("processes do not end", pids=[stray.process.pid for stray in strays])


async def _ended(strays: Sequence[Marked], within: float) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while any(processes.is_alive(stray.process) for stray in strays):
        if loop.time() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True

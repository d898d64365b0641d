"""CPU time and memory of one process, as the kernel counts them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import psutil


class Usage(NamedTuple):
    cpu_seconds: float
    """User and system time since the process started."""
    memory: int
    """Resident bytes."""


class Resources(Protocol):
    """Reads what processes use. Quick enough to be called on a thread for a few dozen of them."""

    def read(self, pid: int, started: float | None) -> Usage | None:
        """None when no such process lives, or another one took its pid."""
        ...


class ProcessResources:
    """Processes of this machine."""

    def read(self, pid: int, started: float | None) -> Usage | None:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                if started is not None and abs(process.create_time() - started) > 2.0:
                    return None
                times = process.cpu_times()
                return Usage(times.user + times.system, process.memory_info().rss)
        except psutil.Error:
            return None

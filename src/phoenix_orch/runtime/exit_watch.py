"""Notice at once that a process ended, and how, whether it is our child or was adopted."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

POLL = 0.02
"""Seconds between two looks where the kernel has no pidfd."""


class ExitWatch:
    """Watches one process from its making on. Belongs to the running event loop; `close` it."""

    def __init__(self, pid: int, alive: Callable[[], bool]) -> None:
        """`alive` tells whether the pid is still the process that is meant; it must not block."""
        self._pid = pid
        self._alive = alive
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._descriptor: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watch()

    @property
    def over(self) -> bool:
        """The process has ended; known to the event loop no later than this call."""
        if not self._over.is_set() and not self._alive():
            self._over.set()
        return self._over.is_set()

    async def wait(self) -> None:
        """Until the process has ended. It is not reaped, so its pid stays its own if it was our child."""
        await self._over.wait()

    def close(self) -> None:
        """Stop watching. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _watch(self) -> None:
        self._descriptor = pidfd(self._pid)
        if self._descriptor is None:
            self._poll()
            return
        self._loop.add_reader(self._descriptor, self._readable)
        if not self._alive():  # ended, and the pid given to another, before we came to look
            self._over.set()

    def _readable(self) -> None:
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
        self._over.set()

    def _poll(self) -> None:
        if self._alive():
            self._timer = self._loop.call_later(POLL, self._poll)
        else:
            self._over.set()


def pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends. None: the kernel has none, or there is no
    such process."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, a kernel before 5.3, out of descriptors, nobody there
        return None


def reap(pid: int) -> int | None:
    """Let the kernel forget an ended child and tell its status: an exit code, or minus a signal.

    None for a process that is not our child: only its parent learns how it ended.
    """
    with contextlib.suppress(ChildProcessError):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done == pid:
            return os.waitstatus_to_exitcode(status)
    return None

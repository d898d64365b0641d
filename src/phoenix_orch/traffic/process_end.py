"""Notice at once that a process ended, whether it is our child or was adopted."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable


async def ended(pid: int, alive: Callable[[], bool]) -> None:
    """Return when process `pid` has ended, and put it to rest if it was a child.

    `alive` tells whether the pid still belongs to the process that is meant; it guards against a pid
    that was given to another process before this call, and is asked every 0.2 s where the kernel has
    no pidfd.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # not Linux, or a kernel before 5.3
        await _polled(alive)
    else:
        try:
            if await asyncio.to_thread(alive):
                await _readable(descriptor)
        finally:
            os.close(descriptor)
    reap(pid)


def reap(pid: int) -> None:
    """Let the kernel forget an ended child. Nothing happens for others, and for one that lives."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(descriptor, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(descriptor)


async def _polled(alive: Callable[[], bool]) -> None:
    while await asyncio.to_thread(alive):  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.2)

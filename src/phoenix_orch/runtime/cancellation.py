"""A cancellation is not lost where a library takes it for something else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def cancellation_kept() -> Iterator[None]:
    """Raise the cancellation that came while the body ran, whatever the body made of it.

    `asyncio.wait_for` before Python 3.12 loses one that comes together with the result, and clients of
    servers lose some while they turn what ends a connection into errors of their own. A loop that misses its
    one cancellation never ends. For the edge to a library; a time-out may be around it or within it.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0

    def lost() -> bool:
        return task is not None and task.cancelling() > before

    try:
        yield
    except Exception:
        if lost():
            raise asyncio.CancelledError from None
        raise
    if lost():
        raise asyncio.CancelledError

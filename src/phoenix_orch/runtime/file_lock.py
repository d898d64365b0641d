"""One writer at a time among the processes of a machine."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

from phoenix_orch.kernel.errors import Retryable


@contextlib.contextmanager
def locked(path: Path, what: str, *, timeout: float) -> Iterator[None]:
    """Hold the lock file `path` exclusively; `timeout` in seconds. Raises Retryable when it passes.

    The kernel gives the lock back when the holder dies, however it dies. Blocking: for threads.
    """
    with path.open("a") as file:
        give_up = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise Retryable(
                        f"another process has been busy with {what} for {timeout:g} s",
                        remedy=f"see which one: fuser {path}",
                    ) from None
            time.sleep(0.002)
        yield

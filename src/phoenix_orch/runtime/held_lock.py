"""A lock file that says for as long as its holder lives that it is the only one of its kind.

The lock is on the file and not on its name: when somebody removes the file, another process can make a new
one and lock that. So the holder looks after the name, and whoever takes the lock makes sure of it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import IO

import structlog

from phoenix_orch.kernel.errors import Conflict
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.runtime.files import make_private

LOOK = 1.0
"""Seconds between two looks at the name of a lock that is held."""

_log = structlog.get_logger(__name__)


class HeldLock:
    """The kernel gives the lock back when the process that holds it dies, however it dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def take(self) -> bool:
        """Take the lock if nobody else has it; whether it is ours now. Raises OSError."""
        while True:
            file = self.path.open("ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return False
            except BaseException:
                file.close()
                raise
            if _is_at(self.path, file):
                self.release()
                self._file = file
                return True
            file.close()  # it was removed in between

    def keep(self) -> bool:
        """Put the file back when it was removed, and its directory; False: somebody else was quicker.

        To be called now and then while the lock is held. Raises OSError.
        """
        if self._file is not None and _is_at(self.path, self._file):
            return True
        make_private(self.path.parent)
        return self.take()

    def release(self) -> None:
        """Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None


async def keep_held(lock: HeldLock) -> None:
    """Look after the name of a lock that is held, every second, until cancelled."""
    faults, place = Faults(_log), str(lock.path)
    taken = Conflict(f"{place} was removed, and another process has taken the new one")
    while True:
        await asyncio.sleep(LOOK)
        try:
            held = await asyncio.to_thread(lock.keep)
        except OSError as error:
            faults.tell(place, error=error)
            continue
        if held:
            faults.mended(place)
        else:
            faults.tell(place, error=taken)


def _is_at(path: Path, file: IO[bytes]) -> bool:
    """The name leads to this very file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False

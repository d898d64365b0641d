"""A file between a source that must not wait and a store that may be slow.

While a server sends its data to us it keeps what changes meanwhile in memory: the longer we take, the more.
So what is sealed goes into a bounded file, as fast as it comes, and from there to the store. Only sealed
bytes belong in it. The file has no name: whatever ends the process, nothing of it is left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from phoenix_orch.kernel.errors import Retryable, Terminal
from phoenix_orch.recovery.errors import Stopped
from phoenix_orch.recovery.handover import GivenUp
from phoenix_orch.recovery.objects import Writer
from phoenix_orch.runtime.files import make_private

PIECE = 1024 * 1024
"""Bytes handed to the store at once."""
_LOOK = 0.5
"""Seconds between looks whether to wait on."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _untold(_: str) -> None:
    return


def _never() -> bool:
    return False


@contextlib.contextmanager
def spooled(
    sink: Writer,
    folder: Path,
    most: int,
    *,
    warn: Callable[[str], None] = _untold,
    stop: Callable[[], bool] = _never,
) -> Iterator[Writer]:
    """Write to what this gives; it is in `sink` when the block has ended well.

    `folder`: on a disk with room; made when it is missing. `most`: bytes of the file, at which the writer
    waits for the store. A disk with less room holds less, which `warn` is told; with none, everything goes
    straight to the store. Never more than half of what is free is taken. `stop`: whether to wait no more for
    a store that is behind. Raises what `sink` raises, Stopped, and Terminal for a folder that cannot be used.
    """
    file, room = _opened(folder, most)
    if room < most:
        warn(f"the disk of the spool is almost full: it holds at most {room:,} bytes")
    if file is None:
        yield sink
        return
    with file:
        spool = _Spool(file.fileno(), sink, room, warn, stop)
        thread = threading.Thread(target=spool.drain, name="phoenix-spool", daemon=True)
        thread.start()
        try:
            yield spool
            spool.end()
        except GivenUp:
            if spool.failure is None:
                raise
        finally:
            spool.close()
            thread.join()
        if spool.failure is not None:
            raise spool.failure


def _opened(folder: Path, most: int) -> tuple[IO[bytes] | None, int]:
    """A file without a name, and how many bytes it may hold; None where the disk has no room for any."""
    try:
        make_private(folder)
        room = min(most, shutil.disk_usage(folder).free // 2)
        return (tempfile.TemporaryFile(dir=folder, buffering=0), room) if room else (None, 0)
    except OSError as error:
        if error.errno in _FULL:
            return None, 0
        raise Terminal(
            f"backups cannot be spooled in {folder}: {(error.strerror or str(error)).lower()}",
            remedy="give the user of Phoenix that folder to write in, or name another: backup.spool.folder",
        ) from None


class _Spool:
    """A ring of bytes in a file: positions only grow, and lie in the file modulo its size."""

    def __init__(
        self,
        descriptor: int,
        sink: Writer,
        most: int,
        warn: Callable[[str], None],
        stop: Callable[[], bool],
    ) -> None:
        self.failure: BaseException | None = None
        self._file, self._sink, self._warn, self._stop = descriptor, sink, warn, stop
        self._size = max(1, most)
        self._written = self._read = 0
        self._ended = self._closed = False
        self._changed = threading.Condition()

    def write(self, data: bytes, /) -> int:
        """Waits where the file is full. Raises GivenUp when the store has failed, whose error comes later."""
        rest = memoryview(data)
        while rest:
            if self._size == 0:
                self._straight(rest)
                break
            room = self._room()
            at = self._written % self._size
            part = rest[: min(room, self._size - at)]
            done = self._put(part, at)
            rest = rest[done:]
            with self._changed:
                self._written += done
                self._changed.notify_all()
        return len(data)

    def end(self) -> None:
        """All was written: wait until the store has it."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            while self._read < self._written and self.failure is None:
                if self._stop():
                    raise Stopped("stopped; nothing of it was kept", remedy="start it again when you like")
                self._changed.wait(_LOOK)

    def close(self) -> None:
        """Whatever is left is not wanted. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def drain(self) -> None:
        """In a thread of its own, until the end."""
        try:
            while piece := self._next():
                self._sink.write(piece)
                with self._changed:
                    self._read += len(piece)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - told in the thread that writes
            with self._changed:
                self.failure = error
                self._changed.notify_all()

    def _room(self) -> int:
        with self._changed:
            while self._written - self._read >= self._size and self.failure is None:
                self._changed.wait()
            if self.failure is not None:
                raise GivenUp
            return self._size - (self._written - self._read)

    def _put(self, part: memoryview, at: int) -> int:
        """How many bytes the file took; on its first round a full disk makes it as large as it is."""
        try:
            return os.pwrite(self._file, part, at)
        except OSError as error:
            if error.errno not in _FULL or self._written >= self._size:
                raise Retryable(
                    f"the spool of the backup cannot be written: {(error.strerror or str(error)).lower()}",
                    remedy="give its disk room",
                ) from None
        self._warn(f"the disk of the spool is full: it holds {self._written:,} bytes")
        with self._changed:
            self._size = self._written
        return 0

    def _straight(self, data: memoryview) -> None:
        """There was no room at all: nothing is in the file, and the other thread waits."""
        if self.failure is not None:
            raise GivenUp
        self._sink.write(bytes(data))

    def _next(self) -> bytes:
        with self._changed:
            while self._read == self._written and not self._ended and not self._closed:
                self._changed.wait()
            if self._closed or self._read == self._written:
                return b""
            at = self._read % self._size
            length = min(PIECE, self._written - self._read, self._size - at)
        return os.pread(self._file, length, at)

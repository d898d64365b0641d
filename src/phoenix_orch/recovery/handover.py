"""One stream from one thread to another, a few MiB of it at a time, and the errors of both.

The side that writes may fail, and so may the one that reads; neither then waits for the other for ever, and
what is raised is the error that came first.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from phoenix_orch.recovery.gently import step_back

T = TypeVar("T")

ROOM = 4
"""Pieces that wait: enough to ride out a pause of one side, and 4 MiB."""


class GivenUp(Exception):
    """The other side has failed; its error is the one to tell."""


class Channel(Protocol):
    """From one thread to another."""

    given_up: GivenUp | None

    def write(self, data: bytes, /) -> int: ...

    def end(self) -> None: ...

    def read(self, size: int = -1, /) -> bytes: ...

    def give_up(self) -> None: ...


class Handover:
    """A bounded queue of bytes with an end: `write` on one side, `read` on the other."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._pieces: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self.given_up: GivenUp | None = None
        """Set when a side has failed."""
        self._rest = memoryview(b"")

    def write(self, data: bytes, /) -> int:
        """Waits for room. Raises GivenUp."""
        if data:
            with self._changed:
                while len(self._pieces) >= self._room and self.given_up is None:
                    self._changed.wait()
                if self.given_up is not None:
                    raise self.given_up
                self._pieces.append(data)
                self._changed.notify_all()
        return len(data)

    def end(self) -> None:
        """Nothing comes any more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def give_up(self) -> None:
        """Whoever waits at the other side goes on with GivenUp. Idempotent."""
        with self._changed:
            self.given_up = self.given_up or GivenUp()
            self._changed.notify_all()

    def read(self, size: int = -1, /) -> bytes:
        """Waits for a piece; b"" at the end. Raises GivenUp."""
        if not self._rest:
            with self._changed:
                while not self._pieces and not self._ended and self.given_up is None:
                    self._changed.wait()
                if self.given_up is not None:
                    raise self.given_up
                if not self._pieces:
                    return b""
                self._rest = memoryview(self._pieces.popleft())
                self._changed.notify_all()
        part = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(part) :]
        return bytes(part)


class OtherSide(Generic[T]):
    """Work in a thread of its own that ends with the block, whatever ends it.

    An error of the block makes the thread end too, and is raised; it is GivenUp when the thread failed
    first, and then the error of the thread is raised instead.
    """

    def __init__(self, channel: Channel, work: Callable[[], T], *, gently: bool = False) -> None:
        """`gently`: with what the processors have left (`gently.py`)."""
        self._channel = channel
        self._work = work
        self._gently = gently
        self._failure: BaseException | None = None
        self._results: list[T] = []
        self._thread = threading.Thread(target=self._run, name="phoenix-pipeline", daemon=True)

    def __enter__(self) -> OtherSide[T]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._channel.give_up()
        self._thread.join()
        if isinstance(error, GivenUp) and self._failure is not None:
            raise self._failure from None

    @property
    def failure(self) -> BaseException | None:
        """Waits for the end of the work: why it failed, if it has."""
        self._thread.join()
        return self._failure

    def result(self) -> T:
        """Waits for the end of the work. Raises GivenUp when it failed."""
        self._thread.join()
        if self._failure is not None:
            raise GivenUp
        return self._results[0]

    def _run(self) -> None:
        if self._gently:
            step_back(threading.get_native_id())
        try:
            self._results.append(self._work())
        except BaseException as failure:  # noqa: BLE001 - told in the thread that waits for it
            self._failure = failure
            self._channel.give_up()

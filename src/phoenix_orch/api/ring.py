"""The newest messages of one stream, for everybody who follows it. Pure.

One copy of each message, however many follow: whoever reads keeps nothing but a position. A reader that is so
slow that messages it has not read leave the ring is told to begin anew; it never makes anything grow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from fastapi.sse import format_sse_event


class Ring:
    """Messages numbered from 1, the newest of them up to `most` bytes in all."""

    def __init__(self, epoch: str, *, most: int) -> None:
        """`epoch`: names this ring among all there ever were, so that ids of others are known as such."""
        self._epoch = epoch
        self._most = most
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self.last = 0
        """Number of the newest message."""

    def append(self, event: str, data: str) -> None:
        """Add one message; the oldest ones leave."""
        self.last += 1
        message = self.encoded(event, data)
        self._messages.append(message)
        self._bytes += len(message)
        while self._bytes > self._most and len(self._messages) > 1:
            self._bytes -= len(self._messages.popleft())

    def encoded(self, event: str, data: str) -> bytes:
        """A message as it is sent, under the id of the newest one."""
        return format_sse_event(event=event, data_str=data, id=f"{self._epoch}-{self.last}")

    def since(self, position: int) -> Sequence[bytes] | None:
        """Messages after that number; None where some of them are not here any more."""
        missing = self.last - position
        if not 0 <= missing <= len(self._messages):
            return None
        return [self._messages[-back] for back in range(missing, 0, -1)]

    def position(self, identity: str) -> int | None:
        """The number that an id of this ring stands for; None for anything else."""
        epoch, _, number = identity.rpartition("-")
        if epoch != self._epoch or not number.isascii() or not number.isdecimal() or len(number) > 18:
            return None
        return int(number)

"""How late the event loop is: what everybody in it waits for besides what he asked for."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

BEAT = 0.1
"""Seconds from one beat to the next."""
LATE = 0.25
"""Share of a time limit that the loop may take of those who had to answer within it."""


class LoopBeat:
    """Beats in the running event loop while a `with` block lasts, and adds up how late the beats came."""

    def __init__(self) -> None:
        self.at = 0.0
        """The moment of the last beat, as `time.monotonic` tells it. May be read from any thread."""
        self.lost = 0.0
        """Seconds that all beats so far came late. Rises by about a second in a second while the loop has
        more to do than it can, or stands still; hardly at all while it waits for others."""
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._next(self._loop.time())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def took(self, before: float, limit: float) -> bool:
        """Whether the loop took a good part of `limit` seconds that have passed since `lost` was `before`.

        Who had to answer meanwhile is then not to blame for the silence.
        """
        return self.lost - before > LATE * limit

    def _beat(self) -> None:
        now = self._loop.time()
        self.lost += max(0.0, now - self._due)
        self._next(now)

    def _next(self, now: float) -> None:
        self.at, self._due = now, now + BEAT
        self._timer = self._loop.call_at(self._due, self._beat)

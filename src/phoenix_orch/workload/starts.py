"""Starts take turns: more programs than cores that load at the same time only keep each other waiting."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

AT_ONCE = max(4, 2 * (os.cpu_count() or 1))
LONGEST = 3.0
"""Seconds after which a start that goes on keeps nobody waiting: one that waits for others costs nothing."""


class Turn:
    """The right to start. It ends once, by `over` or after `LONGEST`."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended: Callable[[], None] | None = ended
        self._timer: asyncio.TimerHandle | None = None

    def limited(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self.over)

    def over(self) -> None:
        """It came up, or it ended, or it is not wanted any more. Idempotent."""
        ended, self._ended = self._ended, None
        if self._timer is not None:
            self._timer.cancel()
        if ended is not None:
            ended()


class Starts:
    """Hands out turns to the instances of all services."""

    def __init__(self, at_once: int = AT_ONCE, longest: float = LONGEST) -> None:
        self._at_once, self._longest = at_once, longest
        self._taken = 0
        self._changed = asyncio.Event()

    async def turn(self, unwanted: Callable[[], bool]) -> Turn:
        """Wait for a turn, or until `unwanted`, which is asked again after every `look_again`."""
        while self._taken >= self._at_once and not unwanted():
            await self._changed.wait()
        self._taken += 1
        turn = Turn(self._over)
        turn.limited(self._longest)
        return turn

    def look_again(self) -> None:
        """Some start may not be wanted any more."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _over(self) -> None:
        self._taken -= 1
        self.look_again()

"""How long one waits for a log that may hang, and how long it is left alone after that.

A server that refuses says so at once. One that was stopped, or that the network swallows, says nothing: every
call then takes its whole time-out, and a pass that makes several of them is late with what it decides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from phoenix_orch.kernel.errors import Retryable

T = TypeVar("T")

PAUSE = 5.0
"""Seconds for which a log that did not answer is not asked again."""
SLOW = 1.0
"""Seconds after which a refusal was no refusal: some time-out further down has ended the call."""

_log = structlog.get_logger("phoenix.store")


class Patience:
    """Bounds the calls to one log. For one event loop; any number of tasks may wait at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds that never go back."""
        self._clock = clock
        self._asked_again_at: float | None = None

    async def within(self, seconds: float, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` gives and raises. Raises Retryable after so many seconds, and at once, without a
        call, while the log is left alone."""
        begun = self._clock()
        if self._asked_again_at is not None and begun < self._asked_again_at:
            raise _silent()
        try:
            async with asyncio.timeout(seconds):
                answer = await call()
        except TimeoutError:
            self._leave_alone()
            raise _silent() from None
        except Retryable:
            if self._clock() - begun >= SLOW:
                self._leave_alone()
            raise
        if self._asked_again_at is not None:
            _log.info("the log answers again")
        self._asked_again_at = None
        return answer

    def _leave_alone(self) -> None:
        if self._asked_again_at is None:
            _log.warning("the log does not answer", asked_again_after=PAUSE)
        self._asked_again_at = self._clock() + PAUSE


def _silent() -> Retryable:
    return Retryable(
        "the log does not answer", remedy="see whether its Redis or Valkey runs and can be reached"
    )

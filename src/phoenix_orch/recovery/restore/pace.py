"""How far a restore is, said now and then: bytes so far, and the time that is left at this speed."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY = 5.0
"""Seconds between two lines: a copy that is through before the first needs none."""


class Pace:
    """Given the bytes that have passed, it says so in a line, seldom enough to be read."""

    def __init__(
        self,
        tell: Callable[[str], None],
        what: str,
        total: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`what`: is being done. `total`: bytes."""
        self._tell, self._what, self._total = tell, what, total
        self._monotonic = monotonic
        self._begun = self._last = monotonic()

    def __call__(self, count: int, /) -> None:
        now = self._monotonic()
        if now - self._last < EVERY or not 0 < count <= self._total:
            return
        self._last = now
        left = (now - self._begun) * (self._total / count - 1)
        self._tell(f"{self._what}: {count / 1e6:.1f} of {self._total / 1e6:.1f} MB, {left:.0f} s left")

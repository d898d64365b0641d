"""Two ways to the API server: the ordinary one, and one kept free for taking traffic away (rule R2).

They share nothing that can be used up: each has its own rate, its own budget of repeats and its own
connections. However many ordinary calls wait, an urgent one does not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from phoenix_orch.kube.bucket import Bucket
from phoenix_orch.kube.errors import Throttled
from phoenix_orch.kube.retry import Backoff
from phoenix_orch.kube.wire import Pool


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one lane may ask, and how long it tries. Seconds."""

    rate: float
    """Requests a second, repeats among them."""
    burst: float
    attempt: float
    """The first attempt, from connecting to the last byte of the answer; twice as long after each one without
    an answer."""
    patience: float
    """One call, with its repeats and the waits between."""
    backoff: Backoff
    repeats: float
    """Repeats that may come at once; each call adds a fifth of one, each second `repeats_rate`."""
    repeats_rate: float


NORMAL = Limits(
    rate=50, burst=100, attempt=10, patience=30, backoff=Backoff(0.1, 5.0), repeats=30, repeats_rate=1
)
URGENT = Limits(
    rate=50, burst=100, attempt=2, patience=15, backoff=Backoff(0.05, 0.5), repeats=500, repeats_rate=50
)
"""A call that does not answer is given up early and made again."""
_EARNED = 0.2
"""Repeats that a call adds to the budget: in trouble they stay below a fifth of the calls."""


@dataclass
class Lane:
    """One way, with what is left of it."""

    pool: Pool
    limits: Limits
    clock: Callable[[], float] = monotonic
    chance: Callable[[], float] = random.random
    _rate: Bucket = field(init=False)
    _budget: Bucket = field(init=False)

    def __post_init__(self) -> None:
        now = self.clock()
        self._rate = Bucket(self.limits.rate, self.limits.burst, now)
        self._budget = Bucket(self.limits.repeats_rate, self.limits.repeats, now)

    async def turn(self, within: float | None = None) -> None:
        """Wait for a place in the rate. Raises Throttled, at once, when it comes later than `within` seconds.

        Without `within` it is the patience of one call.
        """
        wait = self._rate.reserve(self.clock())
        if wait <= 0:
            return
        if wait > (self.limits.patience if within is None else within):
            self._rate.give_back(self.clock())
            raise Throttled(
                f"Phoenix has more to ask of the API server than the {self.limits.rate:g} requests a second "
                "it allows itself",
                remedy="it passes by itself; when it stays, this process looks after too much",
            )
        try:
            await asyncio.sleep(wait)
        except asyncio.CancelledError:
            self._rate.give_back(self.clock())
            raise

    def earn(self) -> None:
        """A new call was made."""
        self._budget.add(_EARNED, self.clock())

    def may_repeat(self) -> bool:
        """Take one repeat out of the budget."""
        return self._budget.take(self.clock())

"""A token bucket, in which places may be taken in advance. Pure: the time is passed in.

Limits the rate of requests, and, filled by requests, the number of repeats.
"""

from __future__ import annotations


class Bucket:
    """`rate` tokens a second come in, up to `burst`; it starts full. Times are seconds of one clock."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        if rate < 0 or burst <= 0:
            raise ValueError(f"rate and burst must be above 0, found {rate} and {burst}")
        self.rate = rate
        self.burst = burst
        self._level = burst
        self._at = now

    def level(self, now: float) -> float:
        """Tokens there are; below 0 when places were taken in advance."""
        if now > self._at:
            self._level = min(self.burst, self._level + (now - self._at) * self.rate)
            self._at = now
        return self._level

    def reserve(self, now: float) -> float:
        """Take the next place; gives the seconds until its turn. Places come in the order they are taken."""
        level = self.level(now) - 1.0
        self._level = level
        return 0.0 if level >= 0 else -level / self.rate

    def give_back(self, now: float) -> None:
        """The place was not used."""
        self.add(1.0, now)

    def take(self, now: float) -> bool:
        """Take a token if there is one now."""
        if self.level(now) < 1.0:
            return False
        self._level -= 1.0
        return True

    def add(self, tokens: float, now: float) -> None:
        self._level = min(self.burst, self.level(now) + tokens)

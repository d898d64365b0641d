"""How often somebody else's change of a traffic object is put back. Pure.

A Git tool that applies a manifest with weights of its own undoes every write of ours, and we its. After
`FREE` rounds in `WINDOW` Phoenix puts back once in `PAUSE` only, and says so. What takes traffic away
from the canary is never put off.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

FREE = 5
"""Times that are put back at once."""
WINDOW = 600.0
"""Seconds without a change after which the other side is believed to have given up."""
PAUSE = 60.0
"""Seconds between two times, once it is a contest."""


@dataclass(slots=True)
class Contest:
    """One traffic object and what was put back of it. Times are seconds of a clock that never goes back."""

    _rounds: deque[float] = field(default_factory=deque)

    def put_back(self, now: float) -> bool:
        """It was put back now; whether that makes it a contest."""
        before = self.contested(now)
        self._rounds.append(now)
        return self.contested(now) and not before

    def contested(self, now: float) -> bool:
        """Somebody insists."""
        self._forget(now)
        return len(self._rounds) >= FREE

    def wait(self, now: float) -> float:
        """Seconds until it may be put back; 0: now."""
        if not self.contested(now):
            return 0.0
        return max(0.0, self._rounds[-1] + PAUSE - now)

    def _forget(self, now: float) -> None:
        while self._rounds and self._rounds[0] < now - WINDOW:
            self._rounds.popleft()
        while len(self._rounds) > FREE:
            self._rounds.popleft()

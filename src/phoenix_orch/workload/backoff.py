"""How long an instance that ended waits for its next start. Pure."""

from __future__ import annotations

from dataclasses import dataclass

BASE = 1.0
"""Seconds before the second restart in a row; the first happens at once."""
LONGEST = 60.0
STEADY = 60.0
"""Seconds of unbroken readiness after which an end counts as the first one again."""
_STEPS = 64
"""More ends than this make no difference, and must not overflow a float."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Unexpected ends in a row, without a minute of health between them."""

    failures: int = 0

    def after_end(self, ready_for: float) -> Backoff:
        """Count one end. `ready_for`: seconds it had been ready without a break, 0 if it was not."""
        return Backoff(1 if ready_for >= STEADY else self.failures + 1)

    @property
    def delay(self) -> float:
        """Seconds to the next start: 0, 1, 2, 4, ... 60."""
        if self.failures <= 1:
            return 0.0
        return min(LONGEST, BASE * 2.0 ** (min(self.failures, _STEPS) - 2))

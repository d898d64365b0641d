"""What answers of the health path mean for an instance. Pure."""

from __future__ import annotations

from dataclasses import dataclass

UNHEALTHY_AFTER = 3
"""An instance is replaced after this many times the failures that made it unready."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Ready at the first good answer; unready after `limit` bad ones in a row."""

    ready: bool = False
    been_ready: bool = False
    failures: int = 0

    def after(self, answered: bool, limit: int) -> Readiness:
        if answered:
            return Readiness(ready=True, been_ready=True)
        failures = self.failures + 1
        return Readiness(self.ready and failures < limit, self.been_ready, failures)

    def unhealthy(self, limit: int) -> bool:
        """It was ready once and has failed for so long that a new process is the better bet.

        One that has never been ready is not unhealthy but slow; a deadline of its own ends it.
        """
        return self.been_ready and self.failures >= UNHEALTHY_AFTER * limit

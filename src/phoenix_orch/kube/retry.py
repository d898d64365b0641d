"""When a call is tried again, and after how long. Pure.

| failure | what happened | reads | writes |
|---|---|---|---|
| connection refused, no connection in time | nothing | again | again |
| 429 | nothing | again, after Retry-After | again, after Retry-After |
| connection reset, no answer in time, 5xx | nobody knows | again | again if a second one changes nothing |

A second one changes nothing for server-side apply, for patches and replacements on a version (the second
is a Conflict), for deletes of one uid, and for creates with a name (the second is AlreadyExists).
"""

from __future__ import annotations

from dataclasses import dataclass

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.kube.errors import Throttled, Unanswered, Unreachable

_STEPS = 32
"""More attempts than this make no difference, and must not overflow a float."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: between nothing and a limit that doubles with every attempt. Seconds."""

    base: float = 0.1
    longest: float = 5.0

    def delay(self, attempt: int, chance: float, retry_after: float = 0.0) -> float:
        """The wait after the failure of attempt 0, 1, 2, ...; `chance` is uniform in 0..1.

        At least `retry_after`; what is above it keeps those who were told the same apart.
        """
        limit = min(self.longest, self.base * 2.0 ** min(attempt, _STEPS))
        return retry_after + chance * limit


def may_repeat(error: PhoenixError, *, repeatable: bool) -> bool:
    """Whether the same call may be sent again. `repeatable`: a second one changes nothing."""
    match error:
        case Unreachable() | Throttled():
            return True
        case Unanswered():
            return repeatable
    return False


def asked_wait(error: PhoenixError) -> float:
    """Seconds that the API server asked to wait before the next attempt."""
    return error.retry_after if isinstance(error, Throttled | Unanswered) else 0.0

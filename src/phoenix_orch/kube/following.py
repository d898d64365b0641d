"""What a reflector does when a watch ends. Pure.

| the watch ended by | then |
|---|---|
| its time, or a clean end | go on from the last version |
| a broken connection, half a line, silence | go on from the last version; list anew when that fails thrice |
| 429 | wait as long as asked, go on from the last version |
| 5xx as the answer | go on from the last version; list anew when that fails thrice |
| 410, an ERROR event, a line that is no event, a refusal, a proof that an object was missed | list anew |

Going on from a version misses nothing: the API server sends what came after it, or says 410. Listing anew
always works, whatever the versions were before: after the restore of a cluster they may have gone back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from phoenix_orch.kube.errors import Status
from phoenix_orch.kube.retry import Backoff

BACKOFF = Backoff(base=0.25, longest=10.0)
PATIENCE = 3
"""Failures in a row to go on from a version, before a list."""


class End(StrEnum):
    """How a watch ended."""

    DONE = "done"
    BROKEN = "broken"
    THROTTLED = "throttled"
    FAILED = "failed"
    GONE = "gone"
    ERROR = "error"
    UNREADABLE = "unreadable"
    REFUSED = "refused"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Ended:
    how: End
    told: str = ""
    retry_after: float = 0.0
    progress: bool = False
    """Something came, or it had lasted long enough to be a watch that worked."""


@dataclass(frozen=True, slots=True)
class Next:
    relist: bool
    wait: float
    """Seconds."""
    failures: int
    """In a row, this one among them."""


_RESUMED = frozenset({End.DONE, End.BROKEN, End.THROTTLED, End.FAILED})


def after(ended: Ended, failures: int, chance: float) -> Next:
    """What to do now. `failures` in a row so far; `chance` is uniform in 0..1."""
    if ended.progress and ended.how is not End.THROTTLED:
        failures = 0
    at_once = (
        failures == 0
        and ended.how in {End.DONE, End.GONE, End.MISSED}
        and (ended.progress or ended.how is not End.DONE)
    )
    wait = 0.0 if at_once else BACKOFF.delay(failures, chance, ended.retry_after)
    failed = 0 if ended.how is End.DONE and ended.progress else failures + 1
    relist = ended.how not in _RESUMED or (ended.how is not End.THROTTLED and failed > PATIENCE)
    return Next(relist, wait, failed)


def end_of_answer(status: Status) -> Ended:
    """What an answer means that is no watch."""
    match status.code:
        case 410:
            return Ended(End.GONE, status.message)
        case 429:
            return Ended(End.THROTTLED, status.message, status.retry_after)
        case code if code >= 500:
            return Ended(End.FAILED, status.message, status.retry_after)
    return Ended(End.REFUSED, status.message)


def end_of_event(status: Status, *, progress: bool) -> Ended:
    """What an ERROR event in a watch means."""
    match status.code:
        case 410:
            return Ended(End.GONE, status.message, progress=progress)
        case 429:
            return Ended(End.THROTTLED, status.message, status.retry_after, progress=progress)
    return Ended(End.ERROR, status.message, status.retry_after, progress=progress)

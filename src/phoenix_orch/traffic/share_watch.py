"""The share of one route from one change of its weight to the next: what was counted, and what follows. Pure.

Times are seconds of any clock that never goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from phoenix_orch.traffic.share_seen import ODDS, Counts, Seen, Witness, share_of

PATIENCE = 90.0
"""Seconds in which the router's counters have the first word. Requests are too few to tell after that: the
traffic object decides."""
BLOCK = 60.0
"""Seconds after which counts that have told something begin anew, so that what goes wrong later is seen."""

NOTHING = Counts(0, 0)


@dataclass(frozen=True, slots=True)
class Watch:
    """One weight while it stands."""

    wanted: int
    before: int | None
    """The weight before it; None: not known."""
    changed: float
    counts: Counts = NOTHING
    since: float = 0.0
    """When these counts began."""
    block: int = 1
    decided: int | None = None
    """What they told last."""
    counting: bool | None = None
    """Somebody counts the route's requests; None: nobody has looked yet."""


def following(watch: Watch | None, wanted: int, now: float) -> Watch:
    """The watch over the weight that the object says now."""
    if watch is not None and watch.wanted == wanted:
        return watch
    return Watch(wanted, watch.wanted if watch is not None else None, now, since=now)


def counted(watch: Watch, more: Counts, now: float) -> Watch:
    """Add what the router has counted since. Each block of counts may err with a part of the odds that are
    left, so that all together do with one in `ODDS`."""
    counts = Counts(watch.counts.canary + more.canary, watch.counts.stable + more.stable)
    odds = ODDS * watch.block * (watch.block + 1)
    share = share_of(counts, watch.wanted, watch.before, odds=odds)
    if share is None:
        return replace(watch, counts=counts, counting=True)
    told = replace(watch, counts=counts, counting=True, decided=share)
    if now - watch.since < BLOCK:
        return told
    return replace(told, counts=NOTHING, since=now, block=watch.block + 1)


def uncounted(watch: Watch) -> Watch:
    """Nobody counts the route's requests, or nobody can be asked. What was told before is old news."""
    return replace(watch, counting=False, decided=None)


def seen(watch: Watch, by_object: int | None, now: float) -> Seen:
    """The share in force. `by_object`: what the object and its status vouch for; None: nothing.

    While the counters may still tell, the object is not believed when it says that all is as wanted.
    """
    if watch.decided is not None:
        return Seen(watch.decided, Witness.ROUTER)
    waits = watch.counting is not False and watch.before is not None and now - watch.changed < PATIENCE
    if by_object is None or (waits and by_object == watch.wanted):
        return Seen(None)
    return Seen(by_object, Witness.OBJECT)

"""Who may work alone: decisions about a lease in a store. Pure.

The storage's clock alone says how old a lease is, since two machines' clocks may differ. The holder counts
by its own stopwatch from before it sent the last renewal that was taken, and stops after `ttl`; others wait
`GRACE` longer, for storage tells whole seconds. So the holder's last moment is before another's first.
The generation rises with every holder: what a late one still writes is told from what the new one writes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

GRACE = timedelta(seconds=2)
"""The storage's times are cut to whole seconds, each by less than one."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What the object of a lease says."""

    generation: int
    holder: str
    """"" when it was given back."""
    nonce: str
    """Another one with each taking: a holder knows its own record by it after a lost answer."""
    ttl_seconds: float

    def encoded(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def decoded(cls, raw: bytes) -> Lease | None:
        """None for what is no lease."""
        try:
            found = json.loads(raw)
            lease = cls(
                generation=int(found["generation"]),
                holder=str(found["holder"]),
                nonce=str(found["nonce"]),
                ttl_seconds=float(found["ttl_seconds"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return lease if 0 <= lease.generation < 2**63 and 0 < lease.ttl_seconds < 1e6 else None


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody else has it, for at least so long."""

    holder: str
    left: timedelta


@dataclass(frozen=True, slots=True)
class Take:
    """Write this, on the condition that nothing was written meanwhile."""

    lease: Lease
    abandoned: Lease | None = None
    """The one before, when its holder never gave it back."""


def decide(
    found: Lease | None,
    modified: datetime,
    now: datetime,
    *,
    holder: str,
    nonce: str,
    ttl: timedelta,
    heir: bool = False,
) -> Take | Wait:
    """`found`: what stands in the store, None for nothing; `modified` and `now` by the storage's clock.

    `heir`: whoever held it by this very name is known to be dead, so that nobody waits for them.
    """
    mine = Lease(generation=1, holder=holder, nonce=nonce, ttl_seconds=ttl.total_seconds())
    if found is None:
        return Take(mine)
    mine = replace(mine, generation=found.generation + 1)
    if not found.holder:
        return Take(mine)
    if heir and found.holder == holder:
        return Take(mine, abandoned=found)
    left = modified + timedelta(seconds=found.ttl_seconds) + GRACE - now
    if left > timedelta(0):
        return Wait(found.holder, left)
    return Take(mine, abandoned=found)

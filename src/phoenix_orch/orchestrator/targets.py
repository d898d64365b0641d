"""What may be wanted of a rollout next. Pure."""

from __future__ import annotations

from collections.abc import Collection

from phoenix_orch.kernel.errors import BadState, Latched
from phoenix_orch.rollout.status import ACTIVE, Rollout


def refuse_target(rollout: Rollout, latched: Collection[str], target: str) -> None:
    """Raises Latched for a revision that was taken back: it is not started again by another name for it (R4).
    Raises BadState for what serves already, or is being released."""
    name = rollout.name
    if target in latched:
        raise Latched(
            f"revision {target} of {name} was rolled back and is latched",
            remedy=f"phoenix rollout retry {name}, or give the mended program another version",
        )
    if target == rollout.status.stable and rollout.status.state not in ACTIVE:
        raise BadState(
            f"revision {target} is what {name} serves already",
            remedy=f"phoenix get revisions {name} lists the others",
        )
    if target == rollout.target and rollout.status.state in ACTIVE:
        raise BadState(
            f"revision {target} of {name} is being released already",
            remedy=f"phoenix rollout watch {name}",
        )

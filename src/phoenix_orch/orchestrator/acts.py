"""Which events of a rollout are acts of Phoenix, and what the audit log says of them. Pure.

An event that only tells what was seen is no act. One of a word that this release does not know is taken for
an act: better a record too many than one too few.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from phoenix_orch.rollout.status import Event, State
from phoenix_orch.security.audit_chain import Entry, Outcome

SEEN_ONLY = frozenset(
    {
        "Blocked",
        "ClockStopped",
        "Hold",
        "PromotionAwaited",
        "RouterLags",
        "Unblocked",
        "VerificationFailed",
        "Verified",
        "Waiting",
        "WaitingEnded",
    }
)
"""Nothing was changed."""
PEOPLE = frozenset(
    {"Applied", "FreezeEnded", "FreezeOverridden", "FreezeStarted", "Restart", "Start", "Undo"}
)
"""Words of people, recorded when they were said."""
ACTIONS: Mapping[str, str] = {
    "AbortedByHand": "rollout.latch",
    "CommandRefused": "rollout.refuse-command",
    "Drift": "rollout.put-back",
    "LatchForgotten": "rollout.forget-latch",
    "LatchRestored": "rollout.restore-latch",
    "Latched": "rollout.latch",
    "StableChanged": "rollout.adopt-stable",
    "StableTakenBack": "rollout.take-stable-back",
    "Step": "rollout.step",
    "StoreLost": "rollout.found-anew",
    "Superseded": "rollout.supersede",
    "WeightSeen": "rollout.weight",
    State.INITIALIZING.value: "rollout.initialize",
    State.IDLE.value: "rollout.rest",
    State.STARTING.value: "rollout.begin",
    State.PROGRESSING.value: "rollout.progress",
    State.PAUSED.value: "rollout.hold",
    State.PROMOTING.value: "rollout.promotion-begin",
    State.BAKING.value: "rollout.promoted",
    State.ROLLING_BACK.value: "rollout.take-back",
    State.CANCELLING.value: "rollout.cancel",
    State.PROMOTED.value: "rollout.end",
    State.ROLLED_BACK.value: "rollout.taken-back",
}
UNKNOWN = "rollout.other"


@dataclass(frozen=True, slots=True)
class Stood:
    """How a rollout stood when the last act was told."""

    state: State
    weight: int

    def shown(self) -> dict[str, Any]:
        return {"state": self.state.value, "weight": self.weight}


def entry(name: str, event_id: str, event: Event, at: datetime, before: Stood | None) -> Entry | None:
    """What the audit log says of an event of rollout `name`; None for one that is no act of Phoenix.

    `at`: its moment on a clock on the wall. `before`: how the rollout stood until then, where that is known.
    """
    if event.reason in SEEN_ONLY | PEOPLE:
        return None
    stands = stood(event)
    after = stands.shown() if stands is not None else {}
    if event.revision:
        after |= {"revision": event.revision, "release": event.release}
    refused = event.reason == "CommandRefused"
    return Entry(
        at=at,
        actor=event.actor,
        action=ACTIONS.get(event.reason, UNKNOWN),
        target=f"rollout/{name}",
        reason=event.message,
        before=before.shown() if before is not None and stands is not None else None,
        after=after or None,
        outcome=Outcome.REFUSED if refused else Outcome.DONE,
        event=f"{name}:{event_id}",
    )


def stood(event: Event) -> Stood | None:
    """None for an event that belongs to no decision."""
    if event.state is None or event.weight is None:
        return None
    return Stood(event.state, event.weight)

"""Decisions that the store has not confirmed: kept in order, until it is back. Pure.

A write that failed may have taken effect all the same. Only the oldest decision has ever been sent,
so it is the only one of which that has to be found out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from phoenix_orch.rollout.status import Event, Release, Rollout, Status

EVENTS_KEPT = 1000
"""Events of one unsaved decision; an outage with more of them keeps the newest."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What one `save` writes."""

    status: Status
    events: tuple[Event, ...] = ()
    release: Release | None = None


class Unsaved:
    """What has been decided since `stored`, the record as it was read last."""

    def __init__(self, stored: Rollout) -> None:
        self._version = stored.version
        self._base = _text(stored.status)
        self.waiting: list[Decided] = []
        """Oldest first; never long, because all but the oldest are joined."""

    def add(self, decided: Decided) -> None:
        last = self.waiting[-1] if len(self.waiting) > 1 else None
        if last is None or (last.release is not None and decided.release is not None):
            self.waiting.append(decided)
            return
        events = (*last.events, *decided.events)[-EVENTS_KEPT:]
        self.waiting[-1] = replace(decided, events=events, release=decided.release or last.release)

    def continues(self, stored: Rollout) -> bool:
        """Whether these decisions go on from what is stored now; the oldest is left out if it is there.

        False: somebody else decided meanwhile, or the rollout is another one; then they are void.
        """
        found = _text(stored.status)
        if self.waiting and stored.version > self._version and found == _text(self.waiting[0].status):
            self.confirmed(stored)
            return True
        return found == self._base

    def confirmed(self, stored: Rollout) -> None:
        """The oldest is in the store."""
        self.waiting.pop(0)
        self._version, self._base = stored.version, _text(stored.status)


def _text(status: Status) -> str:
    """Compared as it is stored, which rounds durations."""
    return status.model_dump_json()

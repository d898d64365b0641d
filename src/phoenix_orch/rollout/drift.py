"""Somebody else's hand on the traffic: told once; the write that follows puts it back (R13)."""

from __future__ import annotations

from datetime import datetime

from phoenix_orch.rollout.status import Event, Rollout
from phoenix_orch.traffic.router import TrafficState


class Drift:
    """Remembers what was written of each route, and which strange picture of it was told last."""

    def __init__(self) -> None:
        self._written: dict[str, TrafficState] = {}
        self._told: dict[str, TrafficState] = {}

    def wrote(self, state: TrafficState) -> None:
        """Our own hand left the object like this."""
        self._written[state.route] = state

    def unsure(self, route: str) -> None:
        """What is written of the route is not known any more."""
        self._written.pop(route, None)

    def forget(self, route: str) -> None:
        self._written.pop(route, None)
        self._told.pop(route, None)

    def told(self, state: TrafficState) -> None:
        self._told[state.route] = state

    def events(self, rollout: Rollout, state: TrafficState | None, now: datetime) -> tuple[Event, ...]:
        """What has to be told of the object as it stands; `told` once it has been."""
        if state is None:
            return ()
        written = self._written.get(rollout.route)
        moved = (
            written is not None
            and state.aborted == written.aborted  # whoever latches may also move groups
            and (state.weight, state.stable, state.canary) != (written.weight, written.stable, written.canary)
        )
        if not (moved or state.drifted):
            self._told.pop(rollout.route, None)
            return ()
        if self._told.get(rollout.route) == state:
            return ()
        message = "the traffic object was changed by hand"
        if written is not None and state.weight != written.weight:
            message += f": weight {state.weight} % instead of {written.weight} %"
        return (
            Event(
                at=now,
                reason="Drift",
                message=f"{message}; it is put back",
                revision=rollout.status.canary or "",
                release=rollout.status.release,
            ),
        )

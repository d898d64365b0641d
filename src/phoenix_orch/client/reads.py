"""What commands that only look need: of the API on this machine, or of the objects of a cluster."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from phoenix_orch.health_validator.observation import Observation
from phoenix_orch.orchestrator.flow_views import FreezeView, GroupView
from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.dora import DoraReport
from phoenix_orch.rollout.status import Event, Release, Revision


class Reads(Protocol):
    """`Client` and `ClusterClient`. Names and errors are those of the API."""

    def speed(self) -> float:
        """How many seconds of rollout time pass in one real second."""
        ...

    def rollouts(self) -> list[RolloutView]: ...

    def rollout(self, name: str) -> RolloutView:
        """Raises NotFound."""
        ...

    def events(self, name: str, *, limit: int = 100) -> list[Event]:
        """The newest `limit`, oldest first."""
        ...

    def history(self, name: str, *, limit: int = 50) -> list[Release]:
        """Ended releases, newest first."""
        ...

    def revisions(self, name: str) -> list[Revision]:
        """What can be gone back to, by number."""
        ...

    def freezes(self) -> list[FreezeView]:
        """Those in force or to come."""
        ...

    def groups(self) -> list[GroupView]: ...

    def dora(self, since: timedelta, rollout: str | None = None) -> DoraReport:
        """Numbers of delivery over the time `since` now."""
        ...

    def observations(
        self, name: str, *, since: datetime | None = None, limit: int = 1000
    ) -> list[Observation]:
        """The newest `limit` since then, oldest first."""
        ...

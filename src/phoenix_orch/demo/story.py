"""What happened to one release of the demo, collected while it happens. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from phoenix_orch.demo.scenario import Planned
from phoenix_orch.demo.users import Users
from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.status import Outcome, Release
from phoenix_orch.workload.workload import Exit


@dataclass
class Story:
    """One release: what was planned, what was seen on the way, and the line of the history."""

    planned: Planned
    revision: str
    users_before: Users
    began: float
    """Real seconds of a monotonic clock."""
    users: Users = field(default_factory=Users)
    """What users saw since the release began."""
    seconds: float = 0.0
    """Real time the release took."""
    highest_weight: int = 0
    """Highest share seen on the data plane, in per cent."""
    canary_requests: int = 0
    canary_errors: int = 0
    """Of the canary since the release began, as the evidence counts them."""
    exits: tuple[Exit, ...] = ()
    release: Release | None = None

    def see(self, view: RolloutView, users: Users, now: float) -> None:
        """Take in one look at the rollout and at the users."""
        if self.release is None:
            self.seconds = now - self.began
        self.users = users.since(self.users_before)
        if view.seen is not None:
            if view.seen.canary_revision == self.revision:
                self.highest_weight = max(self.highest_weight, view.seen.weight or 0)
            if view.seen.stable_revision == self.revision:
                self.highest_weight = 100
        if self.revision in (view.rollout.status.canary, view.rollout.status.stable):
            self.canary_requests = max(self.canary_requests, view.canary.requests)
            self.canary_errors = max(self.canary_errors, view.canary.errors)
        if view.workload is not None:
            known = {(e.instance, e.at) for e in self.exits}
            fresh = (e for e in view.workload.exits if e.revision == self.revision)
            self.exits += tuple(e for e in fresh if (e.instance, e.at) not in known)

    def end(self, release: Release) -> None:
        """The line of the history for this release was written."""
        self.release = release

    @property
    def faults(self) -> tuple[str, ...]:
        """What is not as expected; empty when all is well."""
        release, planned = self.release, self.planned
        if release is None:
            return ("it did not come to an end in time",)
        if release.outcome is not planned.expected:
            return (f"expected {planned.expectation}, was {outcome_text(release.outcome)}: {release.reason}",)
        if planned.expected is Outcome.PROMOTED:
            return () if self.highest_weight == 100 else ("100 % was never seen on the data plane",)
        cause = release.cause
        if cause is None:
            return ("rolled back without a cause",)
        if cause.trigger not in planned.triggers:
            return (f"rolled back, but by {cause.trigger} instead of {' or '.join(planned.triggers)}",)
        blamed = [evidence.metric for evidence in cause.evidence if evidence.breached]
        if planned.blame and planned.blame not in blamed:
            return (f"rolled back, but {planned.blame} is not above its limit in the evidence",)
        return ()

    @property
    def for_another_reason(self) -> bool:
        """It was taken back, as it should be, and not for what is wrong with it."""
        release = self.release
        return release is not None and release.outcome is self.planned.expected and bool(self.faults)

    @property
    def took_back_after(self) -> timedelta | None:
        """Rollout time from the start of the release to the decision to take it back."""
        release = self.release
        if release is None or release.cause is None or release.started is None:
            return None
        return release.cause.at - release.started

    @property
    def lasted(self) -> timedelta | None:
        """Rollout time from the start of the release to its last line."""
        if self.release is None or self.release.started is None:
            return None
        return self.release.ended - self.release.started


def outcome_text(outcome: Outcome) -> str:
    return {
        Outcome.PROMOTED: "promoted",
        Outcome.ROLLED_BACK: "rolled back",
        Outcome.CANCELLED: "cancelled",
        Outcome.SUPERSEDED: "superseded",
    }[outcome]


def deadline(view: RolloutView) -> timedelta:
    """Rollout time after which a release of this rollout has certainly gone wrong."""
    spec = view.rollout.spec
    walk = sum((step.duration for step in view.steps), timedelta())
    return 2 * (walk + spec.policy.bake) + spec.policy.progress_deadline


def found(history: list[Release], revision: str, since: datetime | None) -> Release | None:
    """The line of the history for this release of `revision`, once it is written."""
    for release in history:
        if release.revision == revision and (since is None or release.ended >= since):
            return release
    return None

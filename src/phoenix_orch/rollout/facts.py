"""What a decision looks at and what it gives back: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from phoenix_orch.health_validator.observation import Verdict
from phoenix_orch.rollout.status import Cause, Command, Event, Obstacle, Release, Status, Verification


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """Instances of one revision."""

    present: int = 0
    ready: int = 0


@dataclass(frozen=True, slots=True)
class TrafficFacts:
    """What the traffic object says and what the data plane does. Weights in per cent."""

    stable: str
    canary: str | None = None
    previous: str | None = None
    weight: int = 0
    aborted: tuple[str, ...] = ()
    seen: int | None = None
    """Share of the canary in force; None: the router does not answer."""
    seen_canary: str | None = None
    seen_stable: str | None = None
    """Revisions the data plane serves; None where it does not say."""


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything a decision may look at besides spec, status and time. None: not known now."""

    target: str
    replicas: int
    fast: bool = False
    workload: Mapping[str, GroupFacts] | None = None
    traffic: TrafficFacts | None = None
    traffic_missing: bool = False
    """The route has no traffic object yet (that is known, as opposed to None)."""
    verdict: Verdict | None = None
    cause: Cause | None = None
    """Why the active revision was latched, if somebody said so."""
    verification: Verification | None = None
    commands: tuple[Command, ...] = ()
    obstacle: Obstacle | None = None
    """Why a release may not get any more weight, whatever its health."""
    hold: Obstacle | None = None
    """Why no release may begin now; one that is under way goes on."""
    halt: Obstacle | None = None
    """Why one that is under way gets no more weight now."""
    steering: str = ""
    """Why the traffic object could not be written as it was wanted."""
    awaits: str = ""
    """What a promotion waits for that somebody else has to do, for people; empty: nothing."""

    def group(self, revision: str | None) -> GroupFacts:
        if self.workload is None or revision is None:
            return GroupFacts()
        return self.workload.get(revision, GroupFacts())


@dataclass(frozen=True, slots=True)
class TrafficWanted:
    """How the traffic object should look."""

    stable: str
    canary: str | None = None
    previous: str | None = None
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """The new status and the world it wants. None or empty: nothing is wanted of that part now."""

    status: Status
    abort: str | None = None
    """Latch this revision, before anything else (R2)."""
    clear_latch: str | None = None
    traffic: TrafficWanted | None = None
    instances: Mapping[str, int] = field(default_factory=dict)
    """Wanted count by revision; revisions not named are not wanted."""
    verify: str | None = None
    """promotion or rollback: run the verification steps and publish the result."""
    events: tuple[Event, ...] = ()
    release: Release | None = None
    requeue_after: timedelta | None = None
    """Rollout time after which something changes by itself."""

"""The `status` of the custom resource: what a person looks at first, then what the machine remembers.

The schema that comes from it has types and no bounds: no write of a status may fail because a word or a
number is new to the definition that a cluster has.
"""

from __future__ import annotations

from datetime import datetime

from phoenix_orch.health_validator.observation import Category, Tier, Verdict, VerdictKind
from phoenix_orch.kernel.told import Told
from phoenix_orch.rollout.conditions import Condition
from phoenix_orch.rollout.spec import Model
from phoenix_orch.rollout.status import Command, Event, Release, Status


class VerdictSummary(Model):
    """The health validator's last word, without its evidence."""

    kind: VerdictKind
    """continue, advance, extend, hold or rollback."""
    category: Category
    """Why, for machines."""
    revision: str
    """The revision it is about."""
    step: int
    """The step it is about, from 0."""
    at: datetime
    """When it was said; one that is older than `policy.staleVerdict` is none."""
    reason: Told
    """One sentence."""
    tier: Tier | None = None
    """Of a pass: proven, likely or thin."""


class Wanted(Model):
    """What is asked for besides the spec: the controller reads it from the canary, a person's word or Git."""

    target: str = ""
    """The revision that is wanted."""
    applied: str = ""
    """The revision that a manifest asked for last."""
    fast: bool = False
    """A return to a revision that was stable before: no steps."""
    replicas: int = 0
    """Replicas of stable."""


class Outbox(Model):
    """What was decided with this status and is perhaps not yet in the log."""

    events: tuple[Event, ...] = ()
    """Oldest first."""
    releases: tuple[Release, ...] = ()
    """Ended releases."""


class KubernetesStatus(Status):
    """Where a rollout stands."""

    observed_generation: int = 0
    """The generation of the spec that was acted on last."""
    conditions: tuple[Condition, ...] = ()
    """Progressing, Healthy, Promoted, RolledBack, Stalled."""
    phase: str = ""
    """Name of the phase of the present step."""
    weight_seen: int | None = None
    """Share of traffic that the data plane was seen to send, in per cent; none: it was not seen."""
    verdict: VerdictSummary | None = None
    """The last verdict."""
    wanted: Wanted = Wanted()
    """What is asked for besides the spec."""
    commands: tuple[Command, ...] = ()
    """Words of people that wait to be handled."""
    outbox: Outbox = Outbox()
    """Events and ended releases on their way to the log."""

    def memory(self) -> Status:
        """What the machine goes on from."""
        return Status.model_construct(**{name: getattr(self, name) for name in Status.model_fields})


def summary(verdict: Verdict) -> VerdictSummary:
    """A verdict without its evidence."""
    return VerdictSummary(**{name: getattr(verdict, name) for name in VerdictSummary.model_fields})


def in_short(short: VerdictSummary) -> Verdict:
    """The verdict again, as far as it is told in short."""
    return Verdict(
        kind=short.kind,
        revision=short.revision,
        step=short.step,
        at=short.at,
        reason=short.reason,
        category=short.category,
        tier=short.tier,
    )

"""Who leads: decisions about a Lease. Pure.

Clocks of different machines are never compared. A candidate measures with its own clock how long the
holder's record has not changed; the leader measures from before it sent its last renewal that was taken.
The leader's last moment, by then, comes before the candidate's first:

    leader     sent ──renew_deadline──▶ stops ──slack──▶
    candidate       seen ≥ sent ─────── duration ──────▶ takes

`Term` rises with every change of leader, also over a deleted Lease.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from phoenix_orch.kube.resources import Object

SLACK = 1.0
"""Seconds, at least, in which a leader's work is to end before another may lead."""


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """Seconds. `duration` is whole: the Lease says it to others."""

    duration: int = 15
    """Others wait so long after the last renewal they saw."""
    renew_deadline: float = 10.0
    """The leader stops so long after it sent the last renewal that was taken."""
    retry: float = 2.0
    """Between two renewals, and between two looks of a candidate."""

    def __post_init__(self) -> None:
        if not 0 < self.retry < self.renew_deadline <= self.duration - SLACK:
            raise ValueError(
                f"retry ({self.retry:g} s) < renew deadline ({self.renew_deadline:g} s) <= "
                f"duration ({self.duration} s) - {SLACK:g} s does not hold"
            )


@dataclass(frozen=True, slots=True, order=True)
class Term:
    """One leader's time in office. Later terms are greater.

    `created` is when the API server made the Lease: a Lease made anew counts its transitions anew.
    """

    created: str
    transitions: int

    def __str__(self) -> str:
        return f"{self.created}/{self.transitions}"


@dataclass(frozen=True, slots=True)
class Record:
    """What a Lease says."""

    holder: str
    """Empty: nobody."""
    duration: float
    transitions: int
    created: str
    identity: tuple[str, str]
    """The uid and the resourceVersion: the same exactly while nothing was written."""

    @property
    def term(self) -> Term:
        return Term(self.created, self.transitions)

    @classmethod
    def of(cls, lease: Object) -> Record:
        spec: Mapping[str, Any] = lease.get("spec") or {}
        metadata = lease["metadata"]
        return cls(
            holder=str(spec.get("holderIdentity") or ""),
            duration=float(spec.get("leaseDurationSeconds") or 0),
            transitions=int(spec.get("leaseTransitions") or 0),
            created=str(metadata["creationTimestamp"]),
            identity=(str(metadata["uid"]), str(metadata["resourceVersion"])),
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """What a candidate knows: the last record (None: there is no Lease), and since when it is like that."""

    record: Record | None
    since: float
    """By the candidate's own clock."""
    highest: int = 0
    """Transitions seen in this or an earlier Lease."""
    absent_at: float | None = None
    """When it was last found that a Lease was not there, or was made anew."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody leads, or may still believe so, for at least these seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Take:
    """Write oneself into the Lease as it is now, with this number; act after `probation` seconds."""

    transitions: int
    probation: float
    """The holder of a Lease that was deleted may not have noticed yet."""


def observe(seen: Seen | None, record: Record | None, now: float) -> Seen:
    """What is known after a look at `now`."""
    highest = max(seen.highest if seen else 0, record.transitions if record else 0)
    absent_at = seen.absent_at if seen else None
    if record is None or (seen and seen.record and seen.record.identity[0] != record.identity[0]):
        absent_at = now
    if seen is not None and _identity(seen.record) == _identity(record):
        return replace(seen, highest=highest, absent_at=absent_at)
    return Seen(record, now, highest, absent_at)


def decide(seen: Seen, me: str, now: float, timing: LeaseTiming) -> Wait | Take:
    """What `me`, who does not lead, does now.

    A Lease that names me is one I asked for without hearing the answer, or have lost: nobody else has it.
    """
    record = seen.record
    if record is not None and record.holder not in {"", me}:
        left = seen.since + max(record.duration, timing.duration) - now
        if left > 0:
            return Wait(left)
    absent_for = float(timing.duration) if seen.absent_at is None else now - seen.absent_at
    return Take(seen.highest + 1, max(0.0, timing.duration - absent_for))


def _identity(record: Record | None) -> tuple[str, str] | None:
    return record.identity if record is not None else None

"""A rollout and what is said of it, for checks of a RolloutStore: the values that are easily kept wrong."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from phoenix_orch.health_validator.observation import (
    Arm,
    MetricEvidence,
    Observation,
    Quality,
    Verdict,
    VerdictKind,
)
from phoenix_orch.rollout.spec import Limits, Phase, RolloutSpec
from phoenix_orch.rollout.status import (
    Cause,
    Command,
    CommandKind,
    Event,
    Outcome,
    Release,
    Revision,
    Rollout,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
SHOP = Rollout(
    name="shop",
    service="shop",
    route="shop",
    target="aaaa000000",
    spec=RolloutSpec(
        phases=(
            Phase(
                name="only",
                weight=5,
                duration=timedelta(minutes=10),
                limits=Limits.model_validate({"errorRate": "0.1%"}),
            ),
        )
    ),
)
EVIDENCE = MetricEvidence(
    metric="errorRate",
    observed=0.1 + 0.2,
    limit=0.001,
    stable=1e-9,
    samples=2**53 - 1,
    breached=True,
    window=timedelta(seconds=90, milliseconds=5),
)
VERDICT = Verdict(
    kind=VerdictKind.ROLLBACK,
    revision="bbbb000000",
    step=1,
    at=NOW,
    reason="3 of 10 requests failed: “größer” als erlaubt\n\t\x00\U0001f525",
    blame=("errorRate",),
    evidence=(EVIDENCE,),
)


def at(seconds: float) -> datetime:
    """A moment `seconds` after the checks' present."""
    return NOW + timedelta(seconds=seconds)


def event(number: int, reason: str = "Said") -> Event:
    return Event(at=at(number), reason=reason, message=f"message {number}", release=number)


def release(number: int, reason: str = "") -> Release:
    return Release(
        number=number, revision="bbbb000000", ended=at(number), outcome=Outcome.PROMOTED, reason=reason
    )


def command(identity: str, kind: CommandKind = CommandKind.PAUSE) -> Command:
    return Command(id=identity, kind=kind, actor="sam", at=NOW)


def revision(number: int) -> Revision:
    template = {"command": ["serve", "{port}"], "env": {"N": str(number)}, "ratio": 0.1, "none": None}
    return Revision(
        revision=f"{number:010x}", number=0, version=str(number), at=at(number), template=template
    )


def cause(reason: str, revision: str = "bbbb000000") -> Cause:
    return Cause(revision=revision, trigger="verdict", reason=reason, at=NOW, evidence=(EVIDENCE,))


def observation(number: int) -> Observation:
    arm = Arm(
        revision="bbbb000000",
        requests=10,
        errors=1,
        buckets=((0.005, 9), (math.inf, 1)),
        business={"orders": 2},
        cpu=0.1,
        memory=2**40,
        quality=Quality.MERGED,
    )
    return Observation(
        t0=at(number),
        t1=at(number + 1),
        revision="bbbb000000",
        step=0,
        weight_applied=5,
        canary=arm,
        stable=None,
        notes=(str(number),),
    )

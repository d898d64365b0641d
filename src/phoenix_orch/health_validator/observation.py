"""What both variants did in one interval: integers, and fractions only where the user counts in them.

Everything downstream of here is pure: a recorded list of observations gives the same verdicts.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from phoenix_orch.kernel.units import Duration


class Quality(StrEnum):
    """How far the numbers of one arm can be trusted."""

    OK = "ok"
    MERGED = "merged"  # carries the increase of more than one interval, after a gap
    PARTIAL = "partial"  # some processes of the variant did not answer
    GAP = "gap"  # no answer: the deltas are zero and mean nothing
    STALE = "stale"  # the source answers, yet its counters stand still though traffic is expected


class _Value(BaseModel):
    # Infinity as a string: the last latency edge would become null in JSON and not come back.
    # camelCase for users of the API, the names below for what is stored.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        ser_json_inf_nan="strings",
        alias_generator=to_camel,
        validate_by_name=True,
    )


class Arm(_Value):
    """One variant over one interval. Counts are increases, never totals, never negative."""

    revision: str
    requests: int = 0
    errors: int = 0
    buckets: tuple[tuple[float, int], ...] = ()
    """(upper edge in seconds, requests in this bucket only), rising, the last edge is infinity."""
    business: dict[str, int | float] = {}
    """Increase of each business counter by its name in the spec, to a millionth; one that was not read is
    left out."""
    cpu: float | None = None
    """Highest share of the machine's cores that one process used, 0..1."""
    memory: int | None = None
    """Highest resident size of one process in bytes."""
    restarts: int = 0
    processes: int = 0
    quality: Quality = Quality.OK


class Observation(_Value):
    """Both variants between `t0` and `t1`. `stable` is None where there is none to compare with."""

    t0: datetime
    t1: datetime
    revision: str
    """The revision under judgement; the canary arm's revision."""
    step: int
    weight_applied: int
    """Weight in per cent that the data plane was seen to send at `t1`."""
    canary: Arm
    stable: Arm | None = None
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return max(0.0, (self.t1 - self.t0).total_seconds())


class VerdictKind(StrEnum):
    CONTINUE = "continue"  # within limits, the step's time is not over
    ADVANCE = "advance"  # within limits for the whole step
    EXTEND = "extend"  # the time is over, the evidence is not enough
    HOLD = "hold"  # nothing can be said: no data, stale data, wrong routing
    ROLLBACK = "rollback"


class MetricEvidence(_Value):
    """One metric of one verdict: what was seen, of how many, against which limit."""

    metric: str
    """errorRate, latencyP95, latencyP99, cpu, memory, or business/<name>."""
    observed: float | None
    """None: not enough data. Shares are 0..1, latency is in seconds, memory in bytes."""
    limit: float
    stable: float | None = None
    samples: int = 0
    breached: bool = False
    window: Duration = timedelta(0)
    """Time the number covers."""
    at_least: bool = False
    """The limit is a floor: fewer is the breach."""


class Verdict(_Value):
    """The health validator's answer for one revision at one step at one time."""

    kind: VerdictKind
    revision: str
    step: int
    at: datetime
    reason: str
    """One sentence a person can act on."""
    blame: tuple[str, ...] = ()
    """Metrics that caused a rollback, worst first."""
    evidence: tuple[MetricEvidence, ...] = ()
    requests: int = 0
    """Canary requests seen in this step."""
    observed_for: Duration = timedelta(0)
    """Time of this step that is covered by good observations."""

"""What both variants did in one interval: integers, and fractions only where the user counts in them.

Everything downstream of here is pure: a recorded list of observations gives the same verdicts.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from phoenix_orch.kernel.told import Told
from phoenix_orch.kernel.units import Duration

M = TypeVar("M", bound=BaseModel)


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

    @classmethod
    def trusted(cls, **values: Any) -> Self:
        """One whose values are of the right types, made without looking: some 15 times as fast."""
        return trusted(cls, values)


_make, _set = object.__new__, object.__setattr__


def trusted(cls: type[M], values: dict[str, Any]) -> M:
    """A frozen model from values that need no validation; those left out have their defaults."""
    return complete(cls, _shape(cls)[0] | values)


def complete(cls: type[M], values: dict[str, Any]) -> M:
    """The same from a value for every field, for what every look makes: the dict becomes the model's."""
    made = _make(cls)
    _set(made, "__dict__", values)
    _set(made, "__pydantic_fields_set__", _shape(cls)[1])
    _set(made, "__pydantic_extra__", None)
    _set(made, "__pydantic_private__", None)
    return made


@cache
def _shape(cls: type[BaseModel]) -> tuple[dict[str, Any], set[str]]:
    """Defaults, and the names of all fields: all count as set, in one set that nobody changes."""
    fields = cls.model_fields.items()
    return {name: field.get_default() for name, field in fields if not field.is_required()}, set(
        cls.model_fields
    )


class Arm(_Value):
    """One variant over one interval. Counts are increases, never totals, never negative."""

    revision: str
    requests: int = 0
    """Those that were answered, with an error or without."""
    errors: int = 0
    abandoned: int = 0
    """Those that the client gave up on before there was an answer; `requests` are without them."""
    buckets: tuple[tuple[float, int], ...] = ()
    """(upper edge in seconds, requests in this bucket only), rising, the last edge is infinity."""
    waited: tuple[tuple[float, int], ...] = ()
    """How long clients waited that gave up, likewise: an answer would have taken longer."""
    business: dict[str, int | float] = {}
    """Increase of each business counter by its name in the spec, to a millionth; one that was not read is
    left out."""
    cpu: float | None = None
    """Highest share of the machine's cores that one process used, 0..1."""
    memory: int | None = None
    """Highest resident size of one process in bytes."""
    values: dict[str, float] = {}
    """Plain numbers without counts by their name in the spec; one that was not read is left out."""
    restarts: int = 0
    processes: int = 0
    quality: Quality = Quality.OK
    unserved: float = 0.0
    """Seconds in which no instance was ready although requests were meant for the variant. What the router
    answered then by itself is not counted."""

    @property
    def dropped(self) -> bool:
        """What was counted is left out, because at the beginning there was nobody who could have answered."""
        return self.unserved > 0 and self.quality is Quality.GAP

    @property
    def arrived(self) -> int:
        """Requests that were sent to the variant, whatever became of them."""
        return self.requests + self.abandoned

    @property
    def unanswered(self) -> bool:
        """Clients gave up, and nobody was answered."""
        return self.abandoned > 0 and not self.requests


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


class Category(StrEnum):
    """Why a verdict is what it is, for machines. Only `evidence` and `gate` blame the revision."""

    PROGRESS = "progress"  # nothing to say but that time goes on, or is over
    EVIDENCE = "evidence"  # e-values beyond their threshold
    GATE = "gate"  # at the end of a step the observed value is beyond its limit
    REGRESSION = "regression"  # worse than stable, which by policy is for a person to decide
    SAMPLE = "sample"  # too few requests, or nothing known about a limit
    NO_DECISION = "no-decision"  # still undecided after all extensions
    ENVIRONMENT = "environment"  # stable is beyond the same limits
    NO_DATA = "no-data"  # the source does not answer
    NO_ANSWERS = "no-answers"  # the canary answers nobody: all its clients gave up
    STALE = "stale"  # counters stand still although requests are expected
    ROUTING = "routing"  # requests do not arrive as the weight says


class Tier(StrEnum):
    """How well a step is known to have kept its limits when it is left."""

    PROVEN = "proven"  # the limits hold with 95 % confidence
    LIKELY = "likely"  # values within limits, and a multiple of each limit is excluded
    THIN = "thin"  # too few requests; so few that little can be lost in the next step


class Counterfactual(_Value):
    """What a one-minute point rule would have said of the same observations."""

    kind: VerdictKind
    """rollback, once and for all; or what the rule says just now: continue, extend, hold, advance."""
    at: datetime | None = None
    """When it would have rolled back first."""
    sentence: str
    """In words."""


class Bound(StrEnum):
    """A value of which only a bound is known: it lies beyond the edges that latency is counted by."""

    AT_MOST = "atMost"
    AT_LEAST = "atLeast"


class Slower(_Value):
    """All latency against stable's, at the edge where the evidence that it is slower is strongest."""

    edge: float
    """Seconds."""
    bad: int
    """Requests of the canary that took longer, of `samples`."""
    samples: int
    stable_bad: int
    """The same of stable, over the same step."""
    stable_samples: int


class MetricEvidence(_Value):
    """One metric of one verdict: what was seen, of how many, against which limit."""

    metric: str
    """errorRate, abandonmentRate, latencyP95, latencyP99, latency (all of it against stable), cpu, memory,
    business/<name> or value/<name>."""
    observed: float | None = None
    """None: not enough data. Shares are 0..1, latency is in seconds, memory in bytes."""
    bound: Bound | None = None
    """`observed` is only a bound of the value."""
    limit: float
    stable: float | None = None
    stable_bound: Bound | None = None
    """`stable` is only a bound of the value."""
    samples: int = 0
    breached: bool = False
    window: Duration = timedelta(0)
    """Time the number covers."""
    at_least: bool = False
    """The limit is a floor: fewer is the breach."""
    bad: int = 0
    """Of the samples: failed, given up on, or certainly slower than the limit. The intervals are about their
    share."""
    share_limit: float | None = None
    """Share of bad samples that is allowed: the error rate's limit, 0.05 for a p95, 0.01 for a p99."""
    lower: float | None = None
    upper: float | None = None
    """Interval of the canary's share of bad samples, valid at every look; None for gauges."""
    stable_bad: int = 0
    stable_samples: int = 0
    stable_lower: float | None = None
    stable_upper: float | None = None
    """The same for stable."""
    e_limit: float | None = None
    """Evidence that the canary is beyond its limit: odds against a healthy one, so 100 is 100 : 1."""
    e_stable: float | None = None
    """Evidence that the canary is worse than stable."""
    e_healthy: float | None = None
    """Evidence in this step that the canary keeps its limit."""
    share: float = 0.0
    """Part of the whole evidence that this metric brought, 0..1."""
    share_stable: float = 0.0
    """Of `share`, what the comparison with stable brought."""
    slower: Slower | None = None
    """On the metric of latency that stands for the comparison of all of it; None: nothing to compare."""
    blamed: tuple[str, ...] = ()
    """Against what it is blamed for a rollback by evidence: limit, stable."""
    dispersion: float | None = None
    """How much more such events vary than independent ones; 1 for independent requests."""
    width: float | None = None
    """The dispersion that the intervals are made with: what was measured, 1 where nothing was."""
    tolerance: float | None = None
    """Odds ratio to stable that is no regression."""
    tier: Tier | None = None
    """How well this metric is known to keep its limit just now."""

    def rounded(self) -> MetricEvidence:
        """With six significant digits."""
        long = {name: value for name, value in self.__dict__.items() if isinstance(value, float)}
        return self.model_copy(update={name: float(f"{value:.6g}") for name, value in long.items()})


class Verdict(_Value):
    """The health validator's answer for one revision at one step at one time."""

    kind: VerdictKind
    revision: str
    step: int
    at: datetime
    reason: Told
    """One sentence a person can act on."""
    blame: tuple[str, ...] = ()
    """Metrics that caused a rollback, worst first."""
    evidence: tuple[MetricEvidence, ...] = ()
    requests: int = 0
    """Canary requests that were answered in this step."""
    observed_for: Duration = timedelta(0)
    """Time of this step that is covered by good observations."""
    category: Category = Category.PROGRESS
    tier: Tier | None = None
    """Of a pass: how well the step is known to have kept its limits."""
    e: float | None = None
    """All evidence against the revision so far, as odds: 100 is 100 : 1. None: the literal gate."""
    e_threshold: float | None = None
    """From this on it is a rollback."""
    counterfactual: Counterfactual | None = None

    @property
    def convicts(self) -> bool:
        """Its evidence is beyond the threshold."""
        return self.e is not None and self.e_threshold is not None and self.e >= self.e_threshold

    @property
    def relative(self) -> bool:
        """It convicts, and would not without the comparisons with stable."""
        against_limits = sum(item.share - item.share_stable for item in self.evidence)
        return self.convicts and against_limits * (self.e or 0.0) < (self.e_threshold or 0.0)

    def rounded(self) -> Verdict:
        """With six significant digits in its evidence, for keeping."""
        return self.model_copy(update={"evidence": tuple(item.rounded() for item in self.evidence)})

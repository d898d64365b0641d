"""Parameters of the statistical gate. The defaults are explained in docs/explanation. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from phoenix_orch.kernel.units import Duration, Ratio
from phoenix_orch.rollout.spec.base import Model

Weight = Annotated[float, Field(ge=0, le=100)]
"""Share of one kind of test in the evidence."""


class Shares(Model):
    """How much of the evidence each kind of test may bring: weights of a mean, brought to a sum of 1."""

    errors_against_limit: Weight = 0.25
    """Failed requests against the limit."""
    errors_against_stable: Weight = 0.25
    """Failed requests against stable in the same seconds."""
    latency_against_limit: Weight = 0.2
    """Slow requests against the limits of p95 and p99."""
    latency_against_stable: Weight = 0.3
    """The whole distribution of latency against stable in the same seconds."""
    resources: Weight = 0.1
    """CPU and memory, each."""
    business: Weight = 0.1
    """Each limit of a business metric or of a plain value."""
    abandoned_against_stable: Weight = 0.05
    """Requests that clients gave up on, against stable in the same seconds."""

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if self.errors_against_limit + self.errors_against_stable + self.latency_against_limit == 0:
            raise ValueError("some share of errors or latency has to be above 0")
        return self


class Onset(Model):
    """When a fault is expected to begin: the part of what is left that is staked on each look."""

    first: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """On the first look at the release."""
    step: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """On the first look after the weight was raised."""
    later: Annotated[float, Field(ge=0, lt=1)] = 0.005
    """On every other look."""


class Statistical(Model):
    """Parameters of the statistical gate. The defaults are explained in docs/explanation."""

    alpha: Annotated[float, Field(ge=1e-9, le=0.2)] = 0.01
    """A healthy release is taken back by evidence with at most this probability."""
    alpha_pass: Annotated[float, Field(ge=1e-9, le=0.5)] = 0.05
    """A limit counts as proven at this level; intervals are shown at it, too."""
    shares: Shares = Shares()
    """How much each kind of test counts."""
    onset: Onset = Onset()
    """When a fault is expected to begin."""
    error_odds: Annotated[float, Field(ge=1, le=100)] = 1.1
    """Odds of failure up to so many times those of stable are no regression."""
    materiality: Ratio = 0.0002
    """Nor is an error rate that is higher than stable's by fewer percentage points than this."""
    latency_tolerance: Ratio = 0.1
    """Requests that take longer than stable's by up to this share are no regression."""
    latency_floor: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Requests that take less than this part of the lowest latency limit are quick, however quick stable's
    are: connections and caches behave differently at another share of the traffic."""
    latency_odds: Annotated[float, Field(ge=1, le=100)] = 1.1
    """Odds of being slow up to so many times those of stable are no regression at any edge."""
    latency_odds_cap: Annotated[float, Field(ge=1, le=100)] = 3.0
    """Nor are they ever tolerated beyond so many times."""
    latency_odds_unknown: Annotated[float, Field(ge=1, le=100)] = 2.0
    """Tolerated where there is no history to translate `latencyTolerance` into odds."""
    abandoned_odds: Annotated[float, Field(ge=1, le=100)] = 2.0
    """Odds of clients giving up of up to so many times those of stable are no regression."""
    abandoned_materiality: Ratio = 0.01
    """Nor is a share of requests given up on that is higher than stable's by less than this."""
    business_odds: Annotated[float, Field(ge=1, le=100)] = 1.05
    """Business events up to so many times rarer or more frequent than stable's are no regression."""
    resource_tolerance: Ratio = 0.2
    """CPU and memory up to this share above stable's are no regression."""
    resource_odds: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of minutes in which a healthy variant may be above its limit of CPU, memory or a value."""
    resource_dispersion: Annotated[float, Field(ge=1, le=100)] = 2.0
    """How strongly such minutes, and business events, hang together."""
    min_bad: Annotated[int, Field(ge=1)] = 3
    """Fewer failed requests convict nobody."""
    min_looks: Annotated[int, Field(ge=1)] = 2
    """They have to come in so many intervals, unless half of 20 requests or more failed in one."""
    min_timed: Annotated[int, Field(ge=1)] = 50
    """Latency convicts nobody before so many requests."""
    min_slow: Annotated[int, Field(ge=1)] = 5
    """Nor before so many of them were slow."""
    warm_up: Duration = timedelta(seconds=30)
    """Latency of new processes is not counted for so long; errors are."""
    likely_factor: Annotated[float, Field(ge=1)] = 5.0
    """A step is passed as likely when so many times the limit can be excluded."""
    tier: Literal["proven", "likely"] = "likely"
    """What a step has to reach at its end: the limit proven, or likely kept."""
    extension: Annotated[float, Field(ge=1)] = 2.0
    """A step may be extended to so many times its duration."""
    hold: Annotated[float, Field(ge=1)] = 3.0
    """A step that still cannot be judged is held up to so many times its duration."""
    z: Annotated[float, Field(ge=0)] = 2.0
    """Standard errors that take a release back at the end of a step: what is as rare, by exact tails."""
    z_extended: Annotated[float, Field(ge=0)] = 1.0
    """As `z`, after the extension, where the limit allows three independent failures or more."""
    budget: Annotated[int, Field(ge=0)] = 25
    """Requests that may be lost in the next step when this one could not be judged in full."""
    dispersion_prior_errors: Annotated[float, Field(ge=1, le=100)] = 1.0
    """Dispersion of errors that is expected before any history is read."""
    dispersion_prior_latency: Annotated[float, Field(ge=1, le=100)] = 1.5
    """Dispersion of slow requests that is expected before any history is read."""
    dispersion_safety: Annotated[float, Field(ge=1, le=10)] = 1.5
    """What was measured in the past is taken so many times."""
    dispersion_cap: Annotated[float, Field(ge=1, le=1000)] = 30.0
    """No dispersion is taken to be larger."""
    dispersion_unknown: Annotated[float, Field(ge=1, le=100)] = 3.0
    """Taken where there is no history of at least ten windows."""
    history: Duration = timedelta(hours=6)
    """How much of stable's past is read."""
    history_window: Duration = timedelta(minutes=2)
    """Windows that the past is cut into."""

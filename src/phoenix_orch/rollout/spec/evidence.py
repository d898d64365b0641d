"""Where the numbers of both variants come from, and which ones are read besides the usual. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec.base import MOST, Labels, MetricName, Model, Name, distinct


class BusinessMetric(Model):
    """A counter of the user's choice on `/metrics`, judged per request (guide: business metrics)."""

    name: Name
    """Shown as `business/<name>` in verdicts."""
    counter: MetricName
    """Name of the counter on `/metrics`."""
    labels: Labels = Field(default_factory=dict)
    """Only series with these labels are counted."""
    min_per_request: Annotated[float, Field(ge=0)] | None = None
    """Fewer per request are a breach."""
    max_per_request: Annotated[float, Field(ge=0)] | None = None
    """More per request are a breach."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min_per_request is None and self.max_per_request is None:
            raise ValueError("a business metric needs 'minPerRequest' or 'maxPerRequest'")
        return self


class PlainValue(Model):
    """A gauge on `/metrics` that is a finding by itself, such as a queue's length or a success rate."""

    name: Name
    """Shown as `value/<name>` in verdicts."""
    gauge: MetricName
    """Name of the gauge on `/metrics`."""
    labels: Labels = Field(default_factory=dict)
    """Only series with these labels are read."""
    minimum: float | None = None
    """A lower value is a breach; of several processes the lowest counts."""
    maximum: float | None = None
    """A higher value is a breach; of several processes the highest counts."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if (self.minimum is None) == (self.maximum is None):
            raise ValueError("a plain value needs one of 'minimum' and 'maximum'")
        return self


class Readings(Model):
    """How often the numbers of both variants are read, and which ones besides the usual."""

    interval: Duration = timedelta(seconds=10)
    """Time between two observations."""
    window: Duration = timedelta(minutes=1)
    """The point rule looks at this much of the past."""
    business: Annotated[tuple[BusinessMetric, ...], Field(max_length=MOST)] = ()
    """Counters of your own that are judged per request."""
    values: Annotated[tuple[PlainValue, ...], Field(max_length=MOST)] = ()
    """Gauges of your own that are judged by the minute."""

    @model_validator(mode="after")
    def _window_holds_an_interval(self) -> Self:
        if not timedelta(0) < self.interval <= self.window:
            raise ValueError("'interval' has to be above 0 and no longer than 'window'")
        distinct((metric.name for metric in self.business), "business metrics")
        distinct((value.name for value in self.values), "values")
        return self


class Evidence(Readings):
    """Where the numbers of both variants come from, and how often they are read."""

    source: Literal["router", "metrics"] = "router"
    """router: the router's own counters per variant; metrics: `/metrics` of every process."""

"""The port to the numbers of both variants.

A source keeps nothing between two calls: what it has to remember travels in `SourceMemory`, which the
caller stores together with the verdict. So a crash at any moment loses no event and counts none twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from phoenix_orch.health_validator.counters import Stillness, TrackerState
from phoenix_orch.health_validator.observation import Observation
from phoenix_orch.health_validator.sources.serving import Serving
from phoenix_orch.rollout.spec import BusinessMetric, PlainValue
from phoenix_orch.workload.workload import Instance, WorkloadState


class SourceMemory(BaseModel):
    """What counting on needs. Plain data, versioned by its fields: unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tracker: TrackerState = TrackerState()
    still: Stillness = Stillness()
    read: dict[str, float] = {}
    """Where counters come by way of Prometheus: when each process was scraped last."""
    endpoint: str = ""
    """Who answered then."""
    serving: Serving = Serving()


@dataclass(frozen=True, slots=True)
class Context:
    """What is to be observed, between which moments of the rollout's clock."""

    rollout: str
    route: str
    revision: str
    """The revision under judgement: the canary, or while baking the new stable."""
    stable: str | None
    """The revision to compare with; None while baking."""
    step: int
    weight: int
    """Share of the revision in per cent that the data plane was seen to send."""
    t0: datetime
    t1: datetime
    interval: timedelta
    """How far apart observations are meant to be."""
    workload: WorkloadState | None = None
    business: tuple[BusinessMetric, ...] = ()
    values: tuple[PlainValue, ...] = ()
    notes: tuple[str, ...] = ()
    backends: frozenset[str] = frozenset()
    """Addresses that the data plane may send requests to, of both variants, as far as it tells."""

    def instances(self, revision: str) -> tuple[Instance, ...]:
        """Those that serve; none when the workload could not be read."""
        return self.workload.ready(revision) if self.workload is not None else ()

    @property
    def revisions(self) -> tuple[str, ...]:
        return (self.revision,) if self.stable is None else (self.revision, self.stable)

    @property
    def shares(self) -> dict[str, int]:
        """Per cent of the requests that each revision was seen to be meant to get."""
        found = {self.revision: self.weight}
        return found if self.stable is None else {**found, self.stable: 100 - self.weight}


@dataclass(frozen=True, slots=True)
class Reading:
    """One observation, and the memory for the next call."""

    observation: Observation
    memory: SourceMemory


class EvidenceSource(Protocol):
    """Reads counters of both variants."""

    async def observe(self, context: Context, memory: SourceMemory) -> Reading:
        """What happened since the last call. Never raises for a source that does not answer: the arm's
        quality says so then, and the next call carries the whole increase."""
        ...

"""The walk of a release: phases with their limits, and the flat steps that are made of them. Pure.

The defaults are the operations guide's, exactly ("Deployment Phases"): 5 % for 10 min with at most
0.1 % errors and a p95 of 100 ms; 20 % for 15 min with 0.5 % and 200 ms; then 20 points more every
5 min up to 100 % with the same limits, validated all the while.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from phoenix_orch.kernel.units import Duration, Ratio, Size
from phoenix_orch.rollout.spec.base import MOST, Model, Name, distinct


class Limits(Model):
    """What a variant may do at most while it carries traffic. None: not limited."""

    error_rate: Ratio | None = None
    """Share of requests answered with 5xx."""
    latency_p95: Duration | None = Field(default=None, alias="latencyP95")
    """Time within which 95 % of the requests are answered."""
    latency_p99: Duration | None = Field(default=None, alias="latencyP99")
    """Time within which 99 % of the requests are answered."""
    cpu: Ratio | None = None
    """Share of all cores of the machine, per process, averaged over the window."""
    memory: Size | None = None
    """Resident bytes of any one process."""

    def latencies(self) -> tuple[float | None, float | None]:
        """Seconds, of p95 and p99."""
        p95, p99 = self.latency_p95, self.latency_p99
        return (p95.total_seconds() if p95 else None, p99.total_seconds() if p99 else None)


class Phase(Model):
    """One stage of the walk: either one weight for a time, or a staircase of equal steps."""

    name: Name
    """Shown wherever the phase is spoken of."""
    weight: Annotated[int, Field(ge=1, le=100)] | None = None
    """Share of traffic in per cent; higher than the phase before."""
    duration: Duration | None = None
    """How long the share is watched before the next phase."""
    step: Annotated[int, Field(ge=1, le=100)] | None = None
    """Percentage points added at a time, up to `maxWeight`."""
    every: Duration | None = None
    """How long each step of the staircase is watched."""
    max_weight: Annotated[int, Field(ge=1, le=100)] | None = None
    """The share that a staircase ends with, also where the steps do not come out even; left out: 100."""
    limits: Limits = Limits()
    """What the canary may do at most in this phase."""
    budget: Annotated[int, Field(ge=0)] | None = None
    """Requests that may be lost in the next step when this one could not be judged in full; left out:
    the policy's."""
    early_advance: bool | None = None
    """Leave this phase as soon as its limits are proven; left out: the policy's."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        fixed = self.weight is not None and self.duration is not None
        staircase = self.step is not None and self.every is not None
        any_fixed = self.weight is not None or self.duration is not None
        any_staircase = self.step is not None or self.every is not None
        if self.max_weight is not None and not staircase:
            raise ValueError("'maxWeight' is the end of a staircase; a phase of one weight has none")
        if fixed and not any_staircase:
            return self
        if staircase and not any_fixed:
            return self
        raise ValueError("a phase has either 'weight' and 'duration', or 'step' and 'every'")

    @property
    def end(self) -> int:
        """The share that the phase ends with."""
        return self.weight if self.weight is not None else self.max_weight or 100


class Step(Model):
    """One flat step of the walk, made from the phases. `index` counts from 0."""

    index: int
    phase: str
    weight: int
    duration: Duration
    limits: Limits
    budget: int | None = None
    early_advance: bool | None = None


GUIDE_PHASES: tuple[Phase, ...] = (
    Phase(
        name="initial",
        weight=5,
        duration=timedelta(minutes=10),
        limits=Limits(error_rate="0.1%", latency_p95="100ms"),
    ),
    Phase(
        name="expanded",
        weight=20,
        duration=timedelta(minutes=15),
        limits=Limits(error_rate="0.5%", latency_p95="200ms"),
    ),
    Phase(
        name="full",
        step=20,
        every=timedelta(minutes=5),
        limits=Limits(error_rate="0.5%", latency_p95="200ms"),
    ),
)


class Walk(Model):
    """The phases, and the rules of their order."""

    phases: Annotated[tuple[Phase, ...], Field(min_length=1, max_length=MOST)] = GUIDE_PHASES
    """The walk; left out: the guide's."""

    @model_validator(mode="after")
    def _walk_goes_up(self) -> Self:
        distinct((phase.name for phase in self.phases), "phases")
        weight = 0
        for phase in self.phases:
            if weight == 100 and phase.weight is None:
                raise ValueError(f"phase {phase.name!r}: the phase before it already reached 100")
            if phase.end <= weight:
                word = "weight" if phase.weight is not None else "maxWeight"
                raise ValueError(
                    f"phase {phase.name!r}: {word} {phase.end} is not above the {weight} before it"
                )
            weight = phase.end
        return self

    def steps(self) -> tuple[Step, ...]:
        """The phases as one flat walk of strictly rising weights."""
        return tuple(
            Step(
                index=index,
                phase=phase.name,
                weight=weight,
                duration=duration,
                limits=phase.limits,
                budget=phase.budget,
                early_advance=phase.early_advance,
            )
            for index, (phase, weight, duration) in enumerate(_walk(self.phases))
        )


def _walk(phases: tuple[Phase, ...]) -> Iterator[tuple[Phase, int, timedelta]]:
    weight = 0
    for phase in phases:
        if phase.weight is not None and phase.duration is not None:
            weight = phase.weight
            yield phase, weight, phase.duration
        elif phase.step is not None and phase.every is not None:
            while weight < phase.end:
                weight = min(phase.end, weight + phase.step)
                yield phase, weight, phase.every

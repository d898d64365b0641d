"""What is told of drills: from their reports in the bucket, so that a restart changes none of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily

from phoenix_orch.observability.figures import Family, FigureCollector, Sample


@dataclass(frozen=True, slots=True)
class DrillFigures:
    """Of the newest drills of one kind. Moments are seconds since 1970; None: there was none."""

    kind: str
    passed: bool
    last: float
    last_passed: float | None = None
    last_failed: float | None = None
    rto: float = 0.0
    rto_target: float | None = None
    rpo: Mapping[str, float] = field(default_factory=dict)
    """By component."""
    phases: Mapping[str, float] = field(default_factory=dict)
    """Seconds of each step; of a full recovery only."""


_ABOUT: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "phoenix_drill_passed": ("1 where the last drill of this kind passed, else 0.", ("kind",)),
    "phoenix_drill_last_timestamp_seconds": (
        "When the last drill of this kind with this result was.",
        ("kind", "result"),
    ),
    "phoenix_drill_duration_seconds": ("How long the steps of the last drill of this kind took.", ("kind",)),
    "phoenix_drill_rto_target_seconds": ("How long the steps of a full recovery may take.", ("kind",)),
    "phoenix_drill_rpo_seconds": (
        "How old the state was that the last drill of this kind could recover.",
        ("kind", "component"),
    ),
    "phoenix_recovery_rto_seconds": (
        "How long each step of the last full recovery took, the last full drill's.",
        ("phase",),
    ),
}


def drill_collector() -> FigureCollector[DrillFigures]:
    return FigureCollector(_families, _samples)


def _families() -> dict[str, Family]:
    return {name: GaugeMetricFamily(name, about, labels=labels) for name, (about, labels) in _ABOUT.items()}


def _samples(one: DrillFigures) -> Iterator[Sample]:
    yield "phoenix_drill_passed", [one.kind], float(one.passed)
    yield "phoenix_drill_last_timestamp_seconds", [one.kind, "passed"], one.last_passed
    yield "phoenix_drill_last_timestamp_seconds", [one.kind, "failed"], one.last_failed
    yield "phoenix_drill_duration_seconds", [one.kind], one.rto
    yield "phoenix_drill_rto_target_seconds", [one.kind], one.rto_target
    for component, seconds in sorted(one.rpo.items()):
        yield "phoenix_drill_rpo_seconds", [one.kind, component], seconds
    for phase, seconds in one.phases.items():
        yield "phoenix_recovery_rto_seconds", [phase], seconds

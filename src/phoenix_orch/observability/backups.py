"""What is told of backups: computed from the catalog in the bucket, so that a restart or a schedule that was
deleted changes none of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one component. Moments are seconds since 1970; None: there is no such backup."""

    component: str
    last_success: float | None = None
    consistency_point: float | None = None
    rpo_seconds: float | None = None
    duration_seconds: float | None = None
    raw_bytes: int | None = None
    stored_bytes: int | None = None
    level: int | None = None
    shrink_ratio: float = 1.0
    retained: int = 0
    faults: int = 0
    generation: int | None = None
    verified: Mapping[int, float] = field(default_factory=dict)
    """When a backup was last seen to hold, by level."""


_ABOUT = {
    "last_success_timestamp_seconds": "When the newest verified backup was published.",
    "age_seconds": "How old the state of the newest verified backup is: what would be lost now.",
    "rpo_seconds": "From the state of the newest verified backup until that was published.",
    "duration_seconds": "How long it took.",
    "bytes": "Its size, raw and stored.",
    "verified_level": "How far the newest backup was verified, 0 to 5; -1: not at all.",
    "shrink_ratio": "Of what the newest backup lost most: its size against the middle of those before.",
    "retained": "Backups that are kept.",
    "catalog_faults": "Manifests and records in the bucket that do not hold, and backups that are missing.",
    "lease_generation": "Runs that there were: the number of the newest backup's lease.",
    "last_verified_timestamp_seconds": "When a backup was last seen to hold, by level.",
}
_LABELS: Mapping[str, tuple[str, ...]] = {
    "bytes": ("component", "form"),
    "last_verified_timestamp_seconds": ("component", "level"),
}


class BackupCollector(Collector):
    """Shows the figures that it was given last."""

    def __init__(self) -> None:
        self._figures: Sequence[Figures] = ()

    def set(self, figures: Sequence[Figures]) -> None:
        self._figures = tuple(figures)

    def describe(self) -> list[Metric]:
        return list(_families().values())

    def collect(self) -> Iterator[Metric]:
        families = _families()
        for one in self._figures:
            for name, labels, value in _samples(one):
                if value is not None:
                    families[name].add_metric([one.component, *labels], float(value))
        yield from families.values()


def _families() -> dict[str, GaugeMetricFamily]:
    return {
        name: GaugeMetricFamily(f"phoenix_backup_{name}", about, labels=_LABELS.get(name, ("component",)))
        for name, about in _ABOUT.items()
    }


def _samples(one: Figures) -> Iterator[tuple[str, tuple[str, ...], float | None]]:
    age = None if one.consistency_point is None else max(0.0, time.time() - one.consistency_point)
    yield "last_success_timestamp_seconds", (), one.last_success
    yield "age_seconds", (), age
    yield "rpo_seconds", (), one.rpo_seconds
    yield "duration_seconds", (), one.duration_seconds
    yield "bytes", ("raw",), one.raw_bytes
    yield "bytes", ("stored",), one.stored_bytes
    yield "verified_level", (), -1 if one.level is None else one.level
    yield "shrink_ratio", (), one.shrink_ratio
    yield "retained", (), one.retained
    yield "catalog_faults", (), one.faults
    yield "lease_generation", (), one.generation
    for level, moment in sorted(one.verified.items()):
        yield "last_verified_timestamp_seconds", (str(level),), moment

"""What is told of backups: computed from the catalog in the bucket, so that a restart or a schedule that was
deleted changes none of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from phoenix_orch.observability.figures import Family, FigureCollector, Sample


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one component. Moments are seconds since 1970; None: there is no such backup."""

    component: str
    last_success: float | None = None
    consistency_point: float | None = None
    rpo_seconds: float | None = None
    stages: Mapping[str, float] = field(default_factory=dict)
    """Seconds: until the data was stored, and until it was verified and published."""
    raw_bytes: int | None = None
    stored_bytes: int | None = None
    keys: int | None = None
    level: int | None = None
    shrink_ratio: float = 1.0
    retained: Mapping[str, int] = field(default_factory=dict)
    """Of retention: how many by the first rule that keeps them."""
    faults: int = 0
    generation: int | None = None
    verified: Mapping[int, float] = field(default_factory=dict)
    """When a backup was last seen to hold, by level."""
    missed: int = 0
    orphans: int = 0
    deletions: int = 0
    last_attempt: int | None = None


_ABOUT = {
    "last_success_timestamp_seconds": "When the newest verified backup was published.",
    "age_seconds": "How old the state of the newest verified backup is: what would be lost now.",
    "rpo_seconds": "From the state of the newest verified backup until that was published.",
    "duration_seconds": "How long its stages took: store, verify (and publish).",
    "bytes": "Its size, raw and stored.",
    "keys": "How many keys it holds, of Redis.",
    "verified_level": "How far the newest backup was verified, 0 to 5; -1: not at all.",
    "shrink_ratio": "Of what the newest backup lost most: its size against the middle of those before.",
    "retained": "Backups that are there, by the first rule of retention that keeps them; each counts once.",
    "catalog_faults": "Manifests and records in the bucket that do not hold, and backups that are missing.",
    "lease_generation": "Runs that there were: the number of the newest backup's lease.",
    "missed_slots": "Slots without a backup between the newest eight, and since the newest.",
    "orphans": "Objects that belong to no backup, and are old enough to be swept.",
    "deletions": "Backups that were ever removed; they are numbered, so that each is known of.",
    "last_attempt_status": "Of the run that began last: 1 published, 0 failed, -1 under way or dead.",
    "last_verified_timestamp_seconds": "When a backup was last seen to hold, by level.",
}
_COUNTERS = frozenset({"deletions"})
_LABELS: Mapping[str, tuple[str, ...]] = {
    "bytes": ("component", "form"),
    "duration_seconds": ("component", "stage"),
    "retained": ("component", "tier"),
    "last_verified_timestamp_seconds": ("component", "level"),
}


class BackupCollector(Collector):
    """Shows the figures that it was given last, and whether the storage is the one that it was."""

    def __init__(self) -> None:
        self._shown = FigureCollector(_families, _samples)
        self.set = self._shown.set
        self._lost: bool | None = None

    def lost(self, lost: bool) -> None:
        """Whether the storage is not the one any more that it was."""
        self._lost = lost

    def describe(self) -> list[Metric]:
        return [*self._shown.describe(), _lost_family()]

    def collect(self) -> Iterator[Metric]:
        yield from self._shown.collect()
        lost = _lost_family()
        if self._lost is not None:
            lost.add_metric([], float(self._lost))
        yield lost


def _lost_family() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "phoenix_backup_storage_lost",
        "1 where the storage of backups held some and is empty or another one now, else 0.",
    )


def _families() -> dict[str, Family]:
    return {
        name: (CounterMetricFamily if name in _COUNTERS else GaugeMetricFamily)(
            f"phoenix_backup_{name}", about, labels=_LABELS.get(name, ("component",))
        )
        for name, about in _ABOUT.items()
    }


def _samples(one: Figures) -> Iterator[Sample]:
    for name, labels, value in _measured(one):
        yield name, [one.component, *labels], value


def _measured(one: Figures) -> Iterator[Sample]:
    """Without the label that all of them have."""
    age = None if one.consistency_point is None else max(0.0, time.time() - one.consistency_point)
    yield "last_success_timestamp_seconds", (), one.last_success
    yield "age_seconds", (), age
    yield "rpo_seconds", (), one.rpo_seconds
    for stage, seconds in one.stages.items():
        yield "duration_seconds", (stage,), seconds
    yield "bytes", ("raw",), one.raw_bytes
    yield "bytes", ("stored",), one.stored_bytes
    yield "keys", (), one.keys
    yield "verified_level", (), -1 if one.level is None else one.level
    yield "shrink_ratio", (), one.shrink_ratio
    for tier, count in sorted(one.retained.items()):
        yield "retained", (tier,), count
    yield "missed_slots", (), one.missed
    yield "orphans", (), one.orphans
    yield "deletions", (), one.deletions
    yield "last_attempt_status", (), one.last_attempt
    yield "catalog_faults", (), one.faults
    yield "lease_generation", (), one.generation
    for level, moment in sorted(one.verified.items()):
        yield "last_verified_timestamp_seconds", (str(level),), moment

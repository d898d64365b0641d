"""Which events are told at once, which are counted, and which are too many. Pure.

The same event again within six minutes is a series: its count is written once when it repeats, and then
at most once a minute. An object may cause 25 new events at once and one a minute after that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from phoenix_orch.kube.bucket import Bucket
from phoenix_orch.kube.resources import Object

SERIES_ENDS = 360.0
UPDATE_EVERY = 60.0
BURST = 25
REFILL = 1 / 60
REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Reference:
    """The object an event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str = ""

    @classmethod
    def of(cls, found: Object, *, api_version: str = "", kind: str = "") -> Reference:
        """`api_version` and `kind` for objects out of lists, which do not say them."""
        metadata = found["metadata"]
        return cls(
            api_version=str(found.get("apiVersion") or api_version),
            kind=str(found.get("kind") or kind),
            namespace=str(metadata.get("namespace") or ""),
            name=str(metadata["name"]),
            uid=str(metadata.get("uid") or ""),
        )


@dataclass(frozen=True, slots=True)
class Happening:
    """What is to be told. The same happening again is counted."""

    regarding: Reference
    type: Literal["Normal", "Warning"]
    reason: str
    """CamelCase, for programs."""
    action: str
    """What Phoenix did or tried."""
    note: str
    """For people."""


@dataclass(slots=True)
class Series:
    """One happening and how often it came."""

    happening: Happening
    first: float
    last: float
    count: int = 1
    told: int = 0
    told_at: float = 0.0
    name: str = ""
    """That of the Event that was made for it; empty while there is none."""
    uid: str = ""


@dataclass(slots=True)
class Aggregator:
    """Times are seconds of one clock."""

    _series: OrderedDict[Happening, Series] = field(default_factory=OrderedDict)
    _rates: OrderedDict[Reference, Bucket] = field(default_factory=OrderedDict)

    def note(self, happening: Happening, now: float) -> Series | None:
        """Count it. Gives the series when it is to be told now, None when not yet or not at all."""
        series = self._series.get(happening)
        if series is not None and now - series.last <= SERIES_ENDS:
            series.count += 1
            series.last = now
            self._series.move_to_end(happening)
            return series if self._is_due(series, now) else None
        if not self._rate(happening.regarding, now).take(now):
            return None
        series = Series(happening, now, now)
        self._series[happening] = series
        self._series.move_to_end(happening)
        _forget_oldest(self._series)
        return series

    def due(self, now: float) -> Iterator[Series]:
        """Series whose count is to be told now."""
        for series in list(self._series.values()):
            if self._is_due(series, now):
                yield series

    def ended(self, now: float) -> None:
        """Forget series that are over and told."""
        for happening, series in list(self._series.items()):
            if now - series.last > SERIES_ENDS and series.told == series.count:
                del self._series[happening]

    def told(self, series: Series, count: int, now: float) -> None:
        """It was sent."""
        series.told, series.told_at = count, now

    def _is_due(self, series: Series, now: float) -> bool:
        if series.told == series.count:
            return False
        return series.told <= 1 or now - series.told_at >= UPDATE_EVERY

    def _rate(self, regarding: Reference, now: float) -> Bucket:
        bucket = self._rates.get(regarding)
        if bucket is None:
            bucket = self._rates[regarding] = Bucket(REFILL, BURST, now)
            _forget_oldest(self._rates)
        self._rates.move_to_end(regarding)
        return bucket


def _forget_oldest(kept: OrderedDict[Happening, Series] | OrderedDict[Reference, Bucket]) -> None:
    while len(kept) > REMEMBERED:
        kept.popitem(last=False)

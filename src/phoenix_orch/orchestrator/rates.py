"""Observations added up for people: rates over the last window, totals since the release began."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from phoenix_orch.health_validator.histogram import quantile
from phoenix_orch.health_validator.observation import Arm, Observation
from phoenix_orch.health_validator.resting import is_rest
from phoenix_orch.orchestrator.views import Rates


@dataclass(slots=True)
class _Totals:
    requests: int = 0
    errors: int = 0
    abandoned: int = 0


@dataclass(slots=True)
class RateMeter:
    """Fed with each observation of one release once; memory is bounded by the window."""

    window: timedelta
    last: datetime | None = None
    recent: deque[Observation] = field(default_factory=deque)
    canary_totals: _Totals = field(default_factory=_Totals)
    stable_totals: _Totals = field(default_factory=_Totals)
    _known: tuple[tuple[datetime | None, int], tuple[Rates, Rates]] | None = None
    """The rates given last, by the end of the last observation and how many they are of."""

    def feed(self, observations: Iterable[Observation]) -> None:
        for observation in observations:
            if self.last is not None and observation.t1 <= self.last:
                continue
            self.last = observation.t1
            if is_rest(observation):
                continue  # stable between two releases
            self.recent.append(observation)
            _add(self.canary_totals, observation.canary)
            if observation.stable is not None:
                _add(self.stable_totals, observation.stable)

    def rates(self, now: datetime) -> tuple[Rates, Rates]:
        """(canary, stable) over the window that ends now."""
        while self.recent and self.recent[0].t1 <= now - self.window:
            self.recent.popleft()
        over = (self.last, len(self.recent))
        if self._known is None or self._known[0] != over:
            self._known = over, self._reckoned()
        return self._known[1]

    def _reckoned(self) -> tuple[Rates, Rates]:
        seconds = sum(observation.seconds for observation in self.recent)
        stable = [o.stable for o in self.recent if o.stable is not None]
        return (
            _rates([o.canary for o in self.recent], seconds, self.canary_totals),
            _rates(stable, seconds, self.stable_totals),
        )


def _add(totals: _Totals, arm: Arm) -> None:
    totals.requests += arm.requests
    totals.errors += arm.errors
    totals.abandoned += arm.abandoned


def _rates(arms: list[Arm], seconds: float, totals: _Totals) -> Rates:
    requests = sum(arm.requests for arm in arms)
    counts: dict[float, int] = {}
    for arm in arms:
        for edge, count in arm.buckets:
            counts[edge] = counts.get(edge, 0) + count
    buckets = tuple(sorted(counts.items()))
    return Rates(
        requests_per_second=requests / seconds if seconds > 0 else 0.0,
        error_rate=sum(arm.errors for arm in arms) / requests if requests else None,
        p95=quantile(buckets, 0.95),
        p99=quantile(buckets, 0.99),
        requests=totals.requests,
        errors=totals.errors,
        abandoned=totals.abandoned,
    )

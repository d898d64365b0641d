"""Numbers and verdicts in words. Pure.

`sentence` and `rows` are all that a command line, a page or a message needs to show a verdict; the
judges use the small ones below them to write their reasons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from phoenix_orch.health_validator.observation import Bound, MetricEvidence, Verdict, VerdictKind
from phoenix_orch.kernel.units import format_duration

SMALLEST, SMALLEST_PART = 1e-6, 1e-4
"""Shares, and parts of a whole, below this are told as smaller than it."""

_OPENING = {
    VerdictKind.CONTINUE: "goes on",
    VerdictKind.ADVANCE: "may advance",
    VerdictKind.EXTEND: "needs more evidence",
    VerdictKind.HOLD: "cannot be judged",
    VerdictKind.ROLLBACK: "has to be taken back",
}

_TITLES = {
    "errorRate": "error rate",
    "abandonmentRate": "abandonment rate",
    "latencyP95": "latency p95",
    "latencyP99": "latency p99",
    "cpu": "CPU",
    "memory": "memory",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of a verdict, ready to print."""

    metric: str
    observed: str
    limit: str
    stable: str
    samples: str
    window: str
    breached: bool


def sentence(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    return f"{verdict.revision} {_OPENING[verdict.kind]}: {verdict.reason}."


def rows(verdict: Verdict) -> tuple[Row, ...]:
    """The evidence as a table, breached metrics first."""
    ordered = sorted(verdict.evidence, key=lambda item: not item.breached)
    return tuple(_row(item) for item in ordered)


def _row(item: MetricEvidence) -> Row:
    return Row(
        metric=title(item.metric),
        observed=shown(item.metric, item.observed, item.bound),
        limit=f"{'at least' if item.at_least else 'at most'} {shown(item.metric, item.limit)}",
        stable=shown(item.metric, item.stable, item.stable_bound),
        samples=number(item.samples) if item.samples else "-",
        window=length(item.window),
        breached=item.breached,
    )


def title(metric: str) -> str:
    """`latencyP95` as people say it."""
    if metric.startswith("value/"):
        return metric.removeprefix("value/")
    return _TITLES.get(metric, f"{metric.removeprefix('business/')} per request")


_BOUNDS = {Bound.AT_MOST: "≤ ", Bound.AT_LEAST: "≥ "}


def shown(metric: str, value: float | None, bound: Bound | None = None) -> str:
    """A value of the metric with its unit, a bound as one; `-` when it is not known."""
    if value is None:
        return "-"
    if bound is not None:
        return _BOUNDS[bound] + shown(metric, value)
    if metric in ("errorRate", "abandonmentRate", "cpu"):
        return percent(value)
    if metric in ("latencyP95", "latencyP99"):
        return seconds(value)
    if metric == "memory":
        return size(value)
    return f"{value:.3g}"


def percent(share: float) -> str:
    """0.0723 as `7.23 %`; never with an exponent."""
    if 0 < share < SMALLEST:
        return f"<{SMALLEST * 100:.4f} %"
    return f"{share * 100:.3g} %" if share < 1 else f"{share * 100:.0f} %"


def part(share: float) -> str:
    """Part of a whole, of which the first places are enough: `<0.01 %` for less."""
    return f"<{SMALLEST_PART * 100:g} %" if 0 < share < SMALLEST_PART else percent(share)


def seconds(value: float) -> str:
    """0.182 as `182 ms`, 1.24 as `1.24 s`."""
    return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.3g} s"


def rate(value: float) -> str:
    """Requests in a second of the rollout's clock, to three digits."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def size(value: float) -> str:
    """Bytes in the largest binary unit that leaves a number of 1 or more."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if value >= factor:
            return f"{value / factor:.4g} {unit}"
    return f"{value:.0f} B"


def number(value: int) -> str:
    return f"{value:,}"


def odds(e: float) -> str:
    """Evidence of 1855.3 as `1,855 : 1`; beyond a million only the power of ten is told."""
    if e >= 1e6:
        return f"10^{math.floor(math.log10(e))} : 1"
    return f"{e:,.0f} : 1" if e >= 10 else f"{e:.2g} : 1"


def interval(lower: float, upper: float) -> str:
    """0.0013 and 0.0065 as `0.13-0.65 %`."""
    ends = [f"{share * 100:.2g}" if share < 0.1 else f"{share * 100:.0f}" for share in (lower, upper)]
    return f"{ends[0]}-{ends[1]} %"


def tells(lower: float, upper: float, limit: float | None, *, convicted: bool) -> bool:
    """Whether an interval may stand beside the evidence. `convicted`: by evidence against the limit.

    Both are valid, yet made for other shares: the interval is narrowest near the limit, the evidence bets on
    shares far beyond it too, and it goes on where the interval begins anew. Of few requests the interval may
    hold a limit that the evidence excludes.
    """
    return not (convicted and limit is not None and lower <= limit <= upper)


@lru_cache(maxsize=512)
def length(duration: timedelta) -> str:
    """A duration to the second, `600s` as `10m`; below ten seconds to the tenth."""
    places = 1 if duration < timedelta(seconds=10) else 0
    return format_duration(timedelta(seconds=round(duration.total_seconds(), places)))

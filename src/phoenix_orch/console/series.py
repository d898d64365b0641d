"""Pictures of verdicts as columns of numbers, as the charts of the console read them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.picture import Known, Picture

MOST = 600
"""Points of a chart: more than a screen has columns for says nothing more."""
WEAKEST = 0.1
"""Evidence below this is drawn at the bottom."""
_WHAT = {
    "errorRate": "Failed requests",
    "abandonmentRate": "Requests that clients gave up on",
    "latencyP95": "Slower than the p95 limit",
    "latencyP99": "Slower than the p99 limit",
}


def shares(picture: Picture) -> dict[str, Any]:
    """Both variants with their intervals and the limit, in per cent, over seconds."""
    points = thinned(picture.points)
    canary, stable = [point.canary for point in points], [point.stable for point in points]
    what = _WHAT.get(picture.metric)
    if what is None or picture.edge is not None:
        what = f"Slower than {explain.seconds(picture.edge or 0.0)}"
    return {
        "title": what,
        "note": f"% of requests in this step, {explain.percent(picture.confidence)} intervals",
        "x": [point.seconds for point in points],
        "canary": _columns(canary),
        "stable": _columns(stable),
        "limit": [_percent(point.limit) for point in points],
        "weight": [point.weight for point in points],
        "top": 100 * _ceiling(picture),
    }


def evidence(picture: Picture) -> dict[str, Any] | None:
    """Evidence against the canary and the threshold; None under the literal gate."""
    points = thinned(picture.points)
    if picture.threshold is None or all(point.e is None for point in points):
        return None
    return {
        "title": "Evidence against the canary",
        "note": f"x : 1; from {picture.threshold:,.0f} : 1 on it is taken back",
        "x": [point.seconds for point in points],
        "e": [None if point.e is None else max(WEAKEST, min(point.e, 1e9)) for point in points],
        "threshold": picture.threshold,
    }


def thinned(points: Sequence[Any]) -> list[Any]:
    """At most `MOST`, the last one among them."""
    every = -(-len(points) // MOST) if points else 1
    return [point for index, point in enumerate(points) if (len(points) - 1 - index) % every == 0]


def _columns(known: Sequence[Known | None]) -> dict[str, list[float | None]]:
    return {
        name: [None if one is None else _percent(getattr(one, name)) for one in known]
        for name in ("observed", "lower", "upper")
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else float(f"{share * 100:.4g}")


def _ceiling(picture: Picture) -> float:
    """The highest share worth showing: early intervals reach up to 1 and say nothing."""
    points = picture.points
    last = [known for point in points[-1:] for known in (point.canary, point.stable) if known is not None]
    allowed = 3 * max((point.limit for point in points if point.limit is not None), default=0.0)
    seen = 1.3 * max((known.observed for known in last), default=0.0)
    width = 1.15 * max((known.upper for known in last), default=0.0)
    return min(1.0, max(allowed, seen, min(width, 6 * max(allowed, seen)))) or 0.01

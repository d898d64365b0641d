"""Flagger's point checks: `pkg/controller/scheduler.go`, `scheduler_metrics.go`, `observers/nginx.go`
at fluxcd/flagger 15bd6ad5.

Every interval one value per metric over one window. A value beyond its range, or none at all (no
requests), is a failed check; there is one per interval, whatever the number of metrics. Failed checks
add up over the whole release and are never forgotten. The rollback happens on the tick after their
number reached the threshold. No statistics and no comparison with stable.
"""

from __future__ import annotations

import numpy as np
from benchmarks.judge.latency import EDGES
from benchmarks.judge.scenarios import CANARY, MINUTE
from benchmarks.judge.walk import TICKS, Release, quantile, stage_of

THRESHOLD = 5
"""Of the project's tutorials, with an interval of 1 min."""

_MIDDLES = np.array([*((np.concatenate([[0.0], EDGES[:-2]]) + EDGES[:-1]) / 2), EDGES[-2]])


def defaults(release: Release) -> int | None:
    """With the ranges of the documentation: 99 % success, and a duration of 500 ms, which for nginx is
    the mean."""

    def passes(tick: int) -> bool:
        requests, errors, buckets = release.counted(tick - MINUTE, tick)
        if requests[CANARY] == 0:
            return False
        mean = float(_MIDDLES @ buckets[CANARY]) / requests[CANARY]
        return bool(errors[CANARY] <= 0.01 * requests[CANARY]) and mean <= 0.5

    return _scheduled(passes)


def guide(release: Release) -> int | None:
    """With the operations guide's limits, p95 by a MetricTemplate with histogram_quantile."""

    def passes(tick: int) -> bool:
        stage = stage_of(tick)
        requests, errors, buckets = release.counted(tick - MINUTE, tick)
        if requests[CANARY] == 0:
            return False
        within = errors[CANARY] <= stage.errors * requests[CANARY]
        return bool(within) and quantile(buckets[CANARY], 0.95) <= stage.p95

    return _scheduled(passes)


def _scheduled(passes: object) -> int | None:
    assert callable(passes)
    failed = 0
    for tick in range(MINUTE, TICKS + 1, MINUTE):
        if failed >= THRESHOLD:
            return tick
        failed += not passes(tick)
    return None

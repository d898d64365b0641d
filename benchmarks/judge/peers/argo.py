"""Argo Rollouts' analysis: `analysis/analysis.go`, `utils/evaluate/evaluate.go` at argoproj 9f8d111d.

One AnalysisRun per step with two metrics, error rate and p95, `interval: 1m`, `initialDelay: 1m`,
`successCondition: result[0] <= limit`. A measurement is successful or failed; a NaN, which is what a
minute without requests gives, compares as false and so is failed. The run fails as soon as one metric
has more failed measurements than `failureLimit` (default 0). The next step counts anew.
"""

from __future__ import annotations

from benchmarks.judge.scenarios import CANARY, MINUTE
from benchmarks.judge.walk import STAGES, Release, quantile


def decide(release: Release, failure_limit: int) -> int | None:
    for stage in STAGES:
        failed = [0, 0]
        for tick in range(stage.begin + MINUTE, stage.end + 1, MINUTE):
            requests, errors, buckets = release.counted(tick - MINUTE, tick)
            some = requests[CANARY] > 0
            # A NaN is not within any limit.
            failed[0] += not (some and errors[CANARY] <= stage.errors * requests[CANARY])
            failed[1] += not quantile(buckets[CANARY], 0.95) <= stage.p95
            if max(failed) > failure_limit:
                return tick
    return None

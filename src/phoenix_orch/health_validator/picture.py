"""The picture of a verdict as numbers: what was known of both variants, and how strong the evidence was,
after every observation. Pure; whoever draws it needs nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from phoenix_orch.health_validator import histogram
from phoenix_orch.health_validator.config import JudgeConfig
from phoenix_orch.health_validator.counting import LANES
from phoenix_orch.health_validator.observation import (
    Arm,
    MetricEvidence,
    Observation,
    Slower,
    Verdict,
    VerdictKind,
)
from phoenix_orch.health_validator.rules import ABANDONED
from phoenix_orch.health_validator.sequential import interval
from phoenix_orch.health_validator.tally import COUNTED
from phoenix_orch.rollout.spec import Limits, Model, Step

LATENCY = {"latencyP95": 0.05, "latencyP99": 0.01}
LIMITED = ("errorRate", *LATENCY)
"""Shares of requests that a step may limit, in the order in which one is chosen."""
DRAWN = (*LIMITED, ABANDONED)
"""All shares of requests."""
SLOWER = "latency"
"""All latency against stable's, drawn at one edge."""


class Known(Model):
    """A share of requests in the present step, and the interval that may be watched."""

    bad: int
    requests: int
    observed: float
    lower: float
    upper: float


class Point(Model):
    """What was known after one observation."""

    seconds: float
    """Since the release began to be observed."""
    step: int
    weight: int
    limit: float | None
    """Share that is allowed in this step; None: not limited."""
    canary: Known | None
    stable: Known | None
    e: float | None
    """Evidence against the canary, 100 is 100 : 1; None under the literal gate."""


class Picture(Model):
    """Points in the order of time, of one metric."""

    metric: str
    """errorRate: failed requests; latencyP95, latencyP99: requests slower than the limit; abandonmentRate:
    requests that clients gave up on, of all that arrived; latency: requests slower than `edge`."""
    edge: float | None = None
    """Seconds."""
    confidence: float
    """Of the intervals, 0..1, at all looks together."""
    threshold: float | None
    """Evidence from which on a release is taken back; None under the literal gate."""
    points: tuple[Point, ...]


def picture(
    config: JudgeConfig, observations: Sequence[Observation], verdicts: Sequence[Verdict], metric: str
) -> Picture:
    """Of one of `DRAWN`. A step begins counting anew, since it may have another limit."""
    return _picture(config, metric, tuple(_points(config, observations, verdicts, metric)))


def beside_stable(
    config: JudgeConfig,
    observations: Sequence[Observation],
    verdicts: Sequence[Verdict],
    item: MetricEvidence,
) -> Picture | None:
    """Requests slower than the edge that `item` compares both variants at; None: it compares nothing.

    The edge is chosen by what was seen, so the intervals hold at all edges together.
    """
    if item.slower is None:
        return None
    points = _compared(config, observations, verdicts, item.metric, item.slower)
    return _picture(config, SLOWER, tuple(points), item.slower.edge)


def _picture(
    config: JudgeConfig, metric: str, points: tuple[Point, ...], edge: float | None = None
) -> Picture:
    return Picture(
        metric=metric,
        edge=edge,
        confidence=1 - config.statistical.alpha_pass,
        threshold=1 / config.statistical.alpha if config.gate == "statistical" else None,
        points=points,
    )


def _points(
    config: JudgeConfig, observations: Sequence[Observation], verdicts: Sequence[Verdict], metric: str
) -> Iterator[Point]:
    begun = observations[0].t0 if observations else None
    step, canary, stable, decided = -1, (0, 0), (0, 0), False
    for observation, verdict in zip(observations, verdicts, strict=True):
        place = config.step(observation.step)
        if observation.step != step:
            step, canary, stable = observation.step, (0, 0), (0, 0)
        canary = _added(canary, observation.canary, metric, place.limits)
        if observation.stable is not None:
            stable = _added(stable, observation.stable, metric, place.limits)
        limit = share_limit(place.limits, metric)
        item = evidence_of(verdict, metric)
        width = item.width if item is not None and item.width is not None else 1.0
        mine, theirs = _known(config, canary, limit, width), _known(config, stable, limit, width)
        if item is not None and not decided:  # what the judge counted, and nothing else beside it
            mine, theirs = _judged(item, mine, theirs)
        decided = decided or verdict.kind is VerdictKind.ROLLBACK  # it is repeated from now on
        if place.weight == 100 and metric != ABANDONED:
            theirs = None  # it gets no requests: what there is is older than the step
        yield Point(
            seconds=(observation.t1 - (begun or observation.t0)).total_seconds(),
            step=observation.step,
            weight=place.weight,
            limit=limit,
            canary=mine,
            stable=theirs,
            e=verdict.e,
        )


def _compared(
    config: JudgeConfig,
    observations: Sequence[Observation],
    verdicts: Sequence[Verdict],
    metric: str,
    found: Slower,
) -> Iterator[Point]:
    begun, step, decided = observations[0].t0, -1, False
    counts, samples = [(0, 0), (0, 0)], [0, 0]
    for observation, verdict in zip(observations, verdicts, strict=True):
        if observation.step != step:
            step, counts, samples = observation.step, [(0, 0), (0, 0)], [0, 0]
        item = evidence_of(verdict, metric)
        judged = [item.samples, item.stable_samples] if item is not None and not decided else None
        for side, arm in enumerate((observation.canary, observation.stable)):
            if judged is not None and judged[side] < samples[side]:
                counts[side] = (0, 0)  # after an outage the judge counts anew
            if arm is not None and (judged is None or judged[side] != samples[side]):
                counts[side] = _longer(counts[side], arm, found.edge)
        samples = judged or samples
        if item is not None and item.slower is not None and item.slower == found and not decided:
            counts = [(found.bad, found.samples), (found.stable_bad, found.stable_samples)]
        decided = decided or verdict.kind is VerdictKind.ROLLBACK
        width = item.width if item is not None and item.width is not None else 1.0
        mine, theirs = (_at_edge(config, pair, width) for pair in counts)
        yield Point(
            seconds=(observation.t1 - begun).total_seconds(),
            step=observation.step,
            weight=config.step(observation.step).weight,
            limit=None,
            canary=mine,
            stable=theirs,
            e=verdict.e,
        )


def _longer(sums: tuple[int, int], arm: Arm, edge: float) -> tuple[int, int]:
    if arm.quality not in COUNTED:
        return sums
    return sums[0] + histogram.certainly_above(arm.buckets, edge), sums[1] + histogram.total(arm.buckets)


def _at_edge(config: JudgeConfig, sums: tuple[int, int], dispersion: float) -> Known | None:
    bad, total = sums
    if total == 0:
        return None
    alpha = config.statistical.alpha_pass / LANES
    lower, upper = interval.bounds(bad, total, limit=0.5, alpha=alpha, dispersion=dispersion)
    return Known(bad=bad, requests=total, observed=bad / total, lower=lower, upper=upper)


def sums(observations: Sequence[Observation], step: Step, metric: str) -> tuple[int, int]:
    """(bad, all) requests of the canary in observations of one step."""
    found = (0, 0)
    for observation in observations:
        found = _added(found, observation.canary, metric, step.limits)
    return found


def share_limit(limits: Limits, metric: str) -> float | None:
    """Share of bad requests that the limit of `metric` allows."""
    if metric == "errorRate":
        return limits.error_rate
    if metric == ABANDONED:
        return None
    return LATENCY[metric] if cut_of(limits, metric) is not None else None


def cut_of(limits: Limits, metric: str) -> timedelta | None:
    """Where a request begins to be slow for a metric of latency."""
    return {"latencyP95": limits.latency_p95, "latencyP99": limits.latency_p99}.get(metric)


def _added(sums: tuple[int, int], arm: Arm, metric: str, limits: Limits) -> tuple[int, int]:
    if arm.quality not in COUNTED:
        return sums
    if metric == "errorRate":
        return sums[0] + arm.errors, sums[1] + arm.requests
    if metric == ABANDONED:
        return sums[0] + arm.abandoned, sums[1] + arm.arrived
    cut = cut_of(limits, metric)
    known = histogram.with_waited(arm.buckets, arm.waited, limits.latencies())
    slow = histogram.certainly_above(known, cut.total_seconds()) if cut is not None else 0
    return sums[0] + slow, sums[1] + histogram.total(known)


def _known(
    config: JudgeConfig, sums: tuple[int, int], limit: float | None, dispersion: float
) -> Known | None:
    bad, total = sums
    if total == 0:
        return None
    alpha = config.statistical.alpha_pass
    lower, upper = interval.bounds(bad, total, limit=limit or 0.01, alpha=alpha, dispersion=dispersion)
    return Known(bad=bad, requests=total, observed=bad / total, lower=lower, upper=upper)


def _judged(
    item: MetricEvidence, mine: Known | None, theirs: Known | None
) -> tuple[Known | None, Known | None]:
    """The intervals of the evidence; those given where it has none, as under the literal gate."""
    if item.lower is None:
        return mine, theirs
    mine = _of(item.bad, item.samples, item.lower, item.upper)
    if item.stable_lower is None:
        return mine, theirs if item.stable_samples else None
    return mine, _of(item.stable_bad, item.stable_samples, item.stable_lower, item.stable_upper)


def _of(bad: int, total: int, lower: float, upper: float | None) -> Known | None:
    if total == 0:
        return None
    known = 1.0 if upper is None else upper
    return Known(bad=bad, requests=total, observed=bad / total, lower=lower, upper=known)


def evidence_of(verdict: Verdict, metric: str) -> MetricEvidence | None:
    return next((item for item in verdict.evidence if item.metric == metric), None)

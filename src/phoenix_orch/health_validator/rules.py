"""One step's limits and parameters, made ready for counting. Pure.

Made once for every step of a configuration and then only read.
"""

from __future__ import annotations

from dataclasses import dataclass

from phoenix_orch.health_validator.sequential import absolute
from phoenix_orch.health_validator.sequential.absolute import Lines
from phoenix_orch.rollout.spec import BusinessMetric, Limits, PlainValue, Statistical, Step

SLOTS = 6
"""The rolling window is cut into so many slots."""

QUANTILES = (("latencyP95", 0.05), ("latencyP99", 0.01))
"""Metric, and the share of requests that may be slower than its limit."""

ABANDONED = "abandonmentRate"
"""The metric of requests that clients gave up on."""

MINUTES = (2.5, 8.0, 20.0, 80.0)
"""Alternatives of FAIL for the share of bad minutes."""

RARER = (1 / 1.3, 1 / 1.7, 1 / 2.5, 1 / 4.0, 1 / 8.0, 1 / 20.0, 1 / 80.0, 1 / 400.0)
"""Alternatives of FAIL for a floor: so many times the limit."""


FEW_RARER = tuple(1 / multiple for multiple in absolute.FEW)


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit of a business metric."""

    metric: str
    place: int
    """Of the counter in the spec."""
    limit: float
    at_least: bool
    lines: Lines
    stable_lines: Lines


@dataclass(frozen=True, slots=True)
class Gauge:
    """CPU, memory or a plain value: something that is read, not counted."""

    metric: str
    limit: float | None
    """None: not limited in this step."""
    at_least: bool = False
    beside_stable: bool = False
    """A value far above stable's is a bad one, too."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the statistical gate asks of one step."""

    step: Step
    bake: bool
    parameters: Statistical
    threshold: float
    """1/alpha."""
    first_stake: float
    """On a test's own first look."""
    interval_ms: int
    window_ms: int
    """Of the point rule, as a person wrote it."""
    window_cells: int
    """Evidence intervals in the rolling window, at least one."""
    slot_cells: int
    slots: int
    """Slots of so many intervals in the window."""
    duration_ms: float
    error_limit: float | None
    error_lines: Lines | None
    stable_error_lines: Lines | None
    latency_limits: tuple[float | None, float | None]
    """Seconds, of p95 and p99."""
    latency_lines: tuple[Lines, Lines]
    stable_latency_lines: tuple[Lines, Lines]
    quantiles: tuple[int, ...]
    """Those of QUANTILES that any step limits."""
    business: tuple[Bound, ...]
    counters: tuple[str, ...]
    """Names of the business metrics."""
    gauges: tuple[Gauge, ...]
    gauge_lines: Lines
    shares: dict[str, float]
    """Of each kind of test and metric, with a sum of 1; see `share`."""
    min_requests: int
    budget: int
    early_advance: bool
    following: tuple[int, float] | None
    """Weight and seconds of the step after this one; None: there is none."""
    spokesman: str
    """The metric that stands for the comparison of all latency."""
    who: str
    """What the revision is called."""
    remaining: float
    """Seconds of this step and all after it."""


def compile_rules(
    *,
    steps: tuple[Step, ...],
    index: int,
    parameters: Statistical,
    interval_ms: int,
    window_ms: int,
    business: tuple[BusinessMetric, ...],
    values: tuple[PlainValue, ...],
    min_requests: int,
    early_advance: bool,
) -> Rules:
    """The rules of `steps[index]`; the last of the steps is the bake."""
    step = steps[index]
    limits = step.limits
    window_cells = max(1, round(window_ms / interval_ms))
    slot_cells = -(-window_cells // SLOTS)
    bounds = tuple(_bounds(business))
    gauges = tuple(_gauges(steps, limits, values))
    following = steps[index + 1] if index + 1 < len(steps) else None
    return Rules(
        step=step,
        bake=index == len(steps) - 1,
        parameters=parameters,
        threshold=1 / parameters.alpha,
        first_stake=parameters.onset.first,
        interval_ms=interval_ms,
        window_ms=window_ms,
        window_cells=window_cells,
        slot_cells=slot_cells,
        slots=-(-window_cells // slot_cells),
        duration_ms=step.duration.total_seconds() * 1000,
        error_limit=limits.error_rate,
        error_lines=_share_lines(limits.error_rate, absolute.WORSE),
        stable_error_lines=_share_lines(limits.error_rate, absolute.FEW),
        latency_limits=limits.latencies(),
        latency_lines=(absolute.fail_lines(0.05), absolute.fail_lines(0.01)),
        stable_latency_lines=(
            absolute.fail_lines(0.05, absolute.FEW),
            absolute.fail_lines(0.01, absolute.FEW),
        ),
        quantiles=_limited_quantiles(steps),
        business=bounds,
        counters=tuple(metric.name for metric in business),
        gauges=gauges,
        gauge_lines=absolute.fail_lines(parameters.resource_odds, MINUTES),
        shares=_shares(steps, parameters, bounds, gauges),
        min_requests=max(min_requests, 1),
        budget=parameters.budget if step.budget is None else step.budget,
        early_advance=early_advance if step.early_advance is None else step.early_advance,
        following=(following.weight, following.duration.total_seconds()) if following else None,
        spokesman=_spokesman(limits, _limited_quantiles(steps)),
        who="the new revision" if index == len(steps) - 1 else "canary",
        remaining=sum(later.duration.total_seconds() for later in steps[index:]),
    )


def reference(steps: tuple[Step, ...]) -> float | None:
    """The lowest latency limit of all steps in seconds; comparisons with stable are made around it."""
    limits = [limit for step in steps for limit in (step.limits.latency_p95, step.limits.latency_p99)]
    return min((limit.total_seconds() for limit in limits if limit), default=None)


def _share_lines(limit: float | None, multiples: tuple[float, ...]) -> Lines | None:
    return None if limit is None or limit >= 1 else absolute.fail_lines(limit, multiples)


def _limited_quantiles(steps: tuple[Step, ...]) -> tuple[int, ...]:
    used = (
        any(step.limits.latency_p95 for step in steps),
        any(step.limits.latency_p99 for step in steps),
    )
    return tuple(index for index, limited in enumerate(used) if limited)


def _spokesman(limits: Limits, quantiles: tuple[int, ...]) -> str:
    if limits.latency_p95 is None and (limits.latency_p99 is not None or quantiles == (1,)):
        return QUANTILES[1][0]
    return QUANTILES[0][0]


def _bounds(business: tuple[BusinessMetric, ...]) -> list[Bound]:
    found = []
    for place, metric in enumerate(business):
        name = f"business/{metric.name}"
        if metric.min_per_request is not None:
            found.append(_bound(name, place, metric.min_per_request, at_least=True))
        if metric.max_per_request is not None:
            found.append(_bound(name, place, metric.max_per_request, at_least=False))
    return found


def _bound(metric: str, place: int, limit: float, *, at_least: bool) -> Bound:
    return Bound(
        metric=metric,
        place=place,
        limit=limit,
        at_least=at_least,
        lines=absolute.rate_lines(limit, RARER if at_least else absolute.WORSE),
        stable_lines=absolute.rate_lines(limit, FEW_RARER if at_least else absolute.FEW),
    )


def _gauges(steps: tuple[Step, ...], limits: Limits, values: tuple[PlainValue, ...]) -> list[Gauge]:
    found = []
    if any(step.limits.cpu is not None for step in steps):
        found.append(Gauge("cpu", limits.cpu, beside_stable=True))
    if any(step.limits.memory is not None for step in steps):
        found.append(Gauge("memory", limits.memory, beside_stable=True))
    for value in values:
        name = f"value/{value.name}"
        if value.minimum is not None:
            found.append(Gauge(name, value.minimum, at_least=True))
        else:
            found.append(Gauge(name, value.maximum))
    return found


def _shares(
    steps: tuple[Step, ...], parameters: Statistical, bounds: tuple[Bound, ...], gauges: tuple[Gauge, ...]
) -> dict[str, float]:
    """The mean is over all that any step limits, so that it is fixed before the first number comes."""
    given = parameters.shares
    found = {"abandoned/stable": given.abandoned_against_stable}
    if any(step.limits.error_rate is not None for step in steps):
        found["errors/limit"] = given.errors_against_limit
        found["errors/stable"] = given.errors_against_stable
    quantiles = _limited_quantiles(steps)
    if quantiles:
        for index in quantiles:
            found[QUANTILES[index][0]] = given.latency_against_limit / len(quantiles)
        found["latency/stable"] = given.latency_against_stable
    for place, _bound in enumerate(bounds):
        found[f"bound/{place}/limit"] = given.business / 2
        found[f"bound/{place}/stable"] = given.business / 2
    for gauge in gauges:
        found[gauge.metric] = given.resources
    total = sum(found.values())
    return {name: share / total for name, share in found.items()} if total > 0 else found


def places(uppers: tuple[float, ...], thresholds: tuple[float | None, ...]) -> tuple[tuple[int, int], ...]:
    """For each threshold in seconds: the bucket from which on requests were certainly, and possibly, slower.

    `uppers` are the buckets' upper edges, rising. An edge within a billionth of the threshold is one.
    A threshold of None is beyond every bucket.
    """
    found = []
    for threshold in thresholds:
        if threshold is None:
            found.append((len(uppers), len(uppers)))
            continue
        slack = threshold * 1e-9
        edge = next((i for i, upper in enumerate(uppers) if upper >= threshold - slack), len(uppers) - 1)
        found.append((edge + 1, edge + 1 if uppers[edge] <= threshold + slack else edge))
    return tuple(found)

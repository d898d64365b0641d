"""The evidence of a verdict, metric by metric, as people and machines read it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta

from phoenix_orch.health_validator.books import EDGES, Books, GaugeBook, Ledger, Numbers, T
from phoenix_orch.health_validator.ledger import is_bad
from phoenix_orch.health_validator.measures import Component, Measure, blamed, given_up, slower_at
from phoenix_orch.health_validator.observation import Bound, MetricEvidence
from phoenix_orch.health_validator.rules import ABANDONED, Gauge, Rules
from phoenix_orch.health_validator.sequential import absolute

QUANTILE = {"latencyP95": 0.95, "latencyP99": 0.99}


def findings(
    rules: Rules, books: Books, ledger: Ledger, found: list[Measure], parts: list[Component]
) -> tuple[MetricEvidence, ...]:
    """Every metric that this step limits; requests given up on where there were any."""
    time = timedelta(milliseconds=ledger.observed_ms)
    weighed = _weighed(parts)
    rows = [_counted(rules, books, ledger, measure, weighed) for measure in found]
    for gauge, book in zip(rules.gauges, ledger.gauges, strict=True):
        if gauge.limit is not None:
            rows.append(_gauge(rules, gauge, book, weighed, time))
    width = books.phi[3] if books.known else 1.0
    left = given_up(rules, ledger, dispersion=books.phi[3], width=width)
    if left.bad or (left.total and left.stable_bad):
        row = _counted(rules, books, ledger, left, weighed)
        tolerance = rules.parameters.abandoned_odds
        rows.append(row.model_copy(update={"tolerance": tolerance, "e_healthy": None, "tier": None}))
    return tuple(_with_blame(rules, rows, parts))


def _with_blame(rules: Rules, rows: list[MetricEvidence], parts: list[Component]) -> Iterator[MetricEvidence]:
    convicted = sum([part.worth for part in parts]) >= rules.threshold
    guilty = blamed(parts, rules.threshold) if convicted else []
    for row in rows:
        against = tuple(part.versus for part in guilty if part.metric == row.metric)
        yield row.model_copy(update={"blamed": against}) if against else row


Weighed = dict[tuple[str, str], tuple[float, float]]
"""By metric and opponent (limit, stable): the evidence, and its part of the whole."""


def _weighed(parts: list[Component]) -> Weighed:
    whole = sum([part.worth for part in parts]) or 1.0
    return {(part.metric, part.versus): (part.e, part.worth / whole) for part in parts}


def _counted(
    rules: Rules, books: Books, ledger: Ledger, measure: Measure, weighed: Weighed
) -> MetricEvidence:
    time = timedelta(milliseconds=ledger.observed_ms)
    alpha = rules.parameters.alpha_pass
    lower, upper = measure.shown(alpha)
    beside = rules.step.weight < 100 or measure.metric == ABANDONED
    if not beside:  # the interval in which the weight rose still had some requests to stable
        measure = measure._replace(stable_bad=0.0, stable_total=0.0)
    stable_lower, stable_upper = measure.stable_shown(alpha) if measure.stable_total else (None, None)
    against_limit, part = weighed.get((measure.metric, "limit"), (None, 0.0))
    against_stable, more = weighed.get((measure.metric, "stable"), (None, 0.0))
    observed: float | None
    stable: float | None
    bound: Bound | None = None
    stable_bound: Bound | None = None
    if measure.metric in QUANTILE:
        share, edges = QUANTILE[measure.metric], books.lanes.edges
        limit = rules.latency_limits[0 if share == 0.95 else 1] or 0.0
        observed = quantile(ledger.canary, edges, share)
        stable = quantile(ledger.stable, edges, share) if beside else None
        bound = bound_of(ledger.canary, edges, share)
        stable_bound = bound_of(ledger.stable, edges, share) if beside else None
        allowed, tolerance = measure.limit, rules.parameters.latency_tolerance + 1
    else:
        limit = measure.limit
        observed = measure.bad / measure.total if measure.total else None
        stable = measure.stable_bad / measure.stable_total if measure.stable_total else None
        allowed = measure.limit
        tolerance = rules.parameters.business_odds if measure.rate else rules.parameters.error_odds
    return MetricEvidence.trusted(
        metric=measure.metric,
        observed=observed,
        bound=bound,
        limit=limit,
        stable=stable,
        stable_bound=stable_bound,
        samples=round(measure.total),
        breached=measure.beyond,
        window=time,
        at_least=measure.at_least,
        bad=round(measure.bad),
        share_limit=allowed,
        lower=lower,
        upper=upper if upper < math.inf else None,
        stable_bad=round(measure.stable_bad),
        stable_samples=round(measure.stable_total),
        stable_lower=stable_lower,
        stable_upper=stable_upper,
        e_limit=against_limit,
        e_stable=against_stable,
        e_healthy=healthy(measure),
        share=part + more,
        share_stable=more,
        slower=slower_at(rules, books, ledger) if measure.metric == rules.spokesman else None,
        dispersion=measure.dispersion,
        width=measure.width,
        tolerance=tolerance,
        tier=measure.tier_of(
            (lower, upper) if measure.maybe == measure.bad else measure.bounds(alpha),
            rules.parameters.likely_factor,
        ),
    )


def healthy(measure: Measure) -> float:
    """Evidence in this step that the limit is kept."""
    bad, total = measure.maybe, measure.total
    if measure.rate:
        multiples = absolute.WORSE if measure.at_least else RATES_BELOW
        lines = absolute.rate_lines(measure.limit, multiples)
        return absolute.evidence(bad, total, lines, measure.width)
    if measure.limit >= 1:
        return 1.0
    return absolute.evidence(bad, total - bad, absolute.pass_lines(measure.limit), measure.width)


RATES_BELOW = absolute.BETTER
"""Alternatives of PASS for a rate: so many times the limit."""


def _gauge(rules: Rules, gauge: Gauge, book: GaugeBook, weighed: Weighed, time: timedelta) -> MetricEvidence:
    e, part = weighed.get((gauge.metric, "limit"), (None, 0.0))
    sum_c, ms_c, sum_s, ms_s = book.now
    value = sum_c / ms_c if ms_c > 0 else book.last
    beside = sum_s / ms_s if ms_s > 0 else None
    return MetricEvidence.trusted(
        metric=gauge.metric,
        observed=value,
        limit=gauge.limit or 0.0,
        stable=beside,
        samples=book.minutes,
        breached=value is not None and is_bad(rules, gauge, value, beside) is True,
        window=time,
        at_least=gauge.at_least,
        bad=book.bad,
        share_limit=rules.parameters.resource_odds,
        e_limit=e,
        share=part,
        dispersion=rules.parameters.resource_dispersion,
    )


def quantile(found: Numbers, edges: tuple[float, ...], share: float) -> float | None:
    """The latency in seconds that `share` of the requests did not exceed, read between the lanes' edges.

    None without requests or edges. Below the first edge and beyond the last one the answer is that edge.
    """
    total = found[T]
    if total <= 0 or not edges:
        return None
    allowed = (1 - share) * total
    before, above = edges[0], float(total)
    for edge, slower in zip(edges, found[EDGES:], strict=False):
        if slower <= allowed:
            if edge == edges[0] or above <= slower:
                return edge
            part = (above - allowed) / (above - slower)
            return math.exp(math.log(before) + part * (math.log(edge) - math.log(before)))
        before, above = edge, float(slower)
    return edges[-1]


def bound_of(found: Numbers, edges: tuple[float, ...], share: float) -> Bound | None:
    """Whether that `quantile` is only a bound: the value lies below the first edge, or beyond the last."""
    total, slower = found[T], found[EDGES : EDGES + len(edges)]
    if total <= 0 or not slower:
        return None
    allowed = (1 - share) * total
    if slower[0] <= allowed:
        return Bound.AT_MOST
    return Bound.AT_LEAST if slower[-1] > allowed else None

"""What has been counted against each limit of a step, and how strongly it speaks. Pure."""

from __future__ import annotations

from typing import NamedTuple

from phoenix_orch.health_validator.books import EDGES, LOW, A, Books, Ledger, N, T, X
from phoenix_orch.health_validator.environment import alike
from phoenix_orch.health_validator.ledger import tolerated
from phoenix_orch.health_validator.observation import Slower, Tier
from phoenix_orch.health_validator.rules import ABANDONED, QUANTILES, Rules
from phoenix_orch.health_validator.sequential import interval, poisson


class Measure(NamedTuple):
    """Counts of one limit in this step."""

    metric: str
    key: str
    """Of its share in the evidence against the limit."""
    bad: float
    """Certainly bad ones; events for a business metric."""
    maybe: float
    """Possibly bad ones: what a pass has to count."""
    total: float
    limit: float
    """Allowed share of bad ones, or events per request."""
    stable_bad: float
    stable_total: float
    dispersion: float
    """For what has to be significant."""
    width: float
    """Dispersion for intervals: what was measured, 1 where nothing was."""
    rate: bool = False
    """Events per request rather than a share."""
    at_least: bool = False

    @property
    def beyond(self) -> bool:
        """The observed value is certainly beyond the limit."""
        if self.total <= 0:
            return False
        if self.at_least:
            return self.bad < self.limit * self.total
        return self.bad > self.limit * self.total

    @property
    def shared(self) -> bool:
        """Stable is beyond the limit as well, or may be as bad as the canary for all one can tell."""
        if self.stable_total <= 0:
            return False
        if self.at_least:
            return self.stable_bad < self.limit * self.stable_total
        if self.stable_bad > self.limit * self.stable_total:
            return True
        return alike((self.bad, self.total, self.stable_bad, self.stable_total), self.limit)

    def z(self) -> float:
        """Standard errors by which the limit is missed; below 0 where it is kept."""
        expected = self.limit * self.total
        if expected <= 0:
            return float("inf") if self.bad > 0 and not self.at_least else 0.0
        gap = expected - self.bad if self.at_least else self.bad - expected
        return float(gap / (self.dispersion * expected) ** 0.5)

    def chance(self) -> float:
        """Probability of an observed value as far beyond the limit were the limit just kept: a Poisson
        tail of counts and expectation, both divided by the dispersion."""
        expected = self.effective
        if expected <= 0:
            return 0.0 if self.bad > 0 and not self.at_least else 1.0
        tail = poisson.as_few if self.at_least else poisson.as_many
        return tail(self.bad / self.dispersion, expected)

    @property
    def effective(self) -> float:
        """Events that the limit allows, as independent ones."""
        return self.limit * self.total / self.dispersion

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Interval of the canary's value for a pass: possibly bad ones count as bad."""
        return _bounds(self, self.maybe, self.total, alpha)

    def shown(self, alpha: float) -> tuple[float, float]:
        """Interval of the canary's share of certainly bad ones."""
        return _bounds(self, self.bad, self.total, alpha)

    def stable_shown(self, alpha: float) -> tuple[float, float]:
        return _bounds(self, self.stable_bad, self.stable_total, alpha)

    def tier(self, alpha: float, factor: float) -> Tier | None:
        """How well the limit is known to be kept; None: not even that `factor` times of it is excluded."""
        return self.tier_of(self.bounds(alpha), factor)

    def tier_of(self, bounds: tuple[float, float], factor: float) -> Tier | None:
        """The same, given the interval for a pass."""
        lower, upper = bounds
        if self.at_least:
            if lower >= self.limit:
                return Tier.PROVEN
            kept = self.bad >= self.limit * self.total
            return Tier.LIKELY if kept and lower >= self.limit / factor else None
        if upper <= self.limit:
            return Tier.PROVEN
        kept = self.maybe <= self.limit * self.total
        return Tier.LIKELY if kept and upper <= self.limit * factor else None


def _bounds(measure: Measure, bad: float, total: float, alpha: float) -> tuple[float, float]:
    find = interval.rate_bounds if measure.rate else interval.bounds
    return find(bad, total, limit=measure.limit, alpha=alpha, dispersion=measure.width)


def measures(rules: Rules, books: Books, ledger: Ledger) -> list[Measure]:
    """Everything that this step limits by counts."""
    canary, stable, phi, known = ledger.canary, ledger.stable, books.phi, books.known
    found = []
    if rules.error_limit is not None:
        found.append(
            Measure(
                "errorRate",
                "errors/limit",
                canary[X],
                canary[X],
                canary[N],
                rules.error_limit,
                stable[X],
                stable[N],
                phi[0],
                phi[0] if known else 1.0,
            )
        )
    for place in rules.quantiles:
        if rules.latency_limits[place] is None:
            continue
        metric, share = QUANTILES[place]
        low, spread = LOW + 2 * place, phi[1 + place]
        found.append(
            Measure(
                metric,
                metric,
                canary[low],
                canary[low + 1],
                canary[T],
                share,
                stable[low],
                stable[T],
                spread,
                spread if known else 1.0,
            )
        )
    for place, bound in enumerate(rules.business):
        events, total, stable_events, stable_total = ledger.business[bound.place]
        found.append(
            Measure(
                bound.metric,
                f"bound/{place}/limit",
                events,
                events,
                total,
                bound.limit,
                stable_events,
                stable_total,
                rules.parameters.resource_dispersion,
                1.0,
                rate=True,
                at_least=bound.at_least,
            )
        )
    return found


def given_up(rules: Rules, ledger: Ledger, *, dispersion: float = 1.0, width: float = 1.0) -> Measure:
    """Requests of this step that clients gave up on, of all that arrived, beside stable's; at full weight
    stable's are those of the whole release. The limit is the share that is tolerated beside stable's: 1 where
    nothing is known of it. No limit of the step, so a pass needs no proof of it."""
    given = rules.parameters
    if rules.step.weight < 100:
        stable_bad, stable_total = ledger.stable[A], ledger.stable[N] + ledger.stable[A]
        share = stable_bad / stable_total if stable_total else 1.0
        odds = given.abandoned_odds * share
        limit: float | None = max(share + given.abandoned_materiality, odds / (1 - share + odds))
    else:
        stable_total, stable_bad = ledger.usual
        limit = tolerated(given.abandoned_odds, ledger.usual)
    bad = ledger.canary[A]
    return Measure(
        ABANDONED,
        "abandoned/stable",
        bad,
        bad,
        ledger.canary[N] + bad,
        1.0 if limit is None else min(1.0, limit),
        stable_bad,
        stable_total,
        dispersion,
        width,
    )


def slower_at(rules: Rules, books: Books, ledger: Ledger) -> Slower | None:
    """Where the two distributions of latency differ most, weighed by the evidence; None: without requests of
    both in this step."""
    if rules.step.weight == 100:
        return None
    canary, stable, shape = ledger.canary, ledger.stable, ledger.shape
    if not shape or not canary[T] or not stable[T]:
        return None
    lane = max(range(len(shape)), key=lambda place: shape[place].value)
    place = EDGES + lane
    if place >= min(len(canary), len(stable)):
        return None
    return Slower.trusted(
        edge=books.lanes.edges[lane],
        bad=canary[place],
        samples=canary[T],
        stable_bad=stable[place],
        stable_samples=stable[T],
    )


class Component(NamedTuple):
    """One part of the weighted evidence."""

    metric: str
    versus: str
    """limit or stable."""
    share: float
    e: float
    counts: bool
    """Its guards are kept, and stable is not beyond the same limit."""
    worth: float
    """What it brings to the whole: what does not count brings 1 at most."""


BLAME = 0.1
"""A metric that brought this part of the threshold is blamed."""


def blamed(parts: list[Component], threshold: float) -> list[Component]:
    """What a conviction is laid on, what weighs most first: at least one part."""
    ranked = sorted(parts, key=lambda part: part.worth, reverse=True)
    return [part for part in ranked if part.worth >= BLAME * threshold] or ranked[:1]


_new = tuple.__new__
"""Makes a Component at half the price of its name; every look needs some."""


def components(rules: Rules, ledger: Ledger) -> list[Component]:
    """All parts of the evidence; the sum of their worth is an e-process, whatever depends on what."""
    shares, sick, given, guard = rules.shares, ledger.sick, rules.parameters, ledger.guard
    e = ledger.abandoned.value
    far = e > 1.0 and guard.left >= given.min_looks and _far(rules, ledger)
    found = [(ABANDONED, "stable", shares["abandoned/stable"], e, far)]
    if "errors/limit" in shares:
        enough = guard.burst or (guard.bad >= given.min_bad and guard.cells >= given.min_looks)
        first, _, third = ledger.errors
        well = enough and sick[0] < 0
        worse = enough and _material(given.materiality, ledger)
        found.append(("errorRate", "limit", shares["errors/limit"], first.value, well))
        found.append(("errorRate", "stable", shares["errors/stable"], third.value, worse))
    if rules.quantiles:
        enough = guard.timed >= given.min_timed
        for place in rules.quantiles:
            metric, e = QUANTILES[place][0], ledger.latency[place][0].value
            slow = enough and ledger.canary[LOW + 2 * place] >= given.min_slow and sick[1 + place] < 0
            found.append((metric, "limit", shares[metric], e, slow))
        if ledger.shape:
            e = sum([test[2] for test in ledger.shape]) / len(ledger.shape)
            found.append((rules.spokesman, "stable", shares["latency/stable"], e, enough))
    for place, bound in enumerate(rules.business):
        first, _, third = ledger.bounds[place]
        well, key = sick[1 + len(QUANTILES) + place] < 0, f"bound/{place}/"
        found.append((bound.metric, "limit", shares[key + "limit"], first.value, well))
        found.append((bound.metric, "stable", shares[key + "stable"], third.value, True))
    for gauge, book in zip(rules.gauges, ledger.gauges, strict=True):
        found.append((gauge.metric, "limit", shares[gauge.metric], book.test.value, True))
    return [
        _new(Component, (metric, versus, share, e, counts, share * (e if counts or e < 1.0 else 1.0)))
        for metric, versus, share, e, counts in found
    ]


def _far(rules: Rules, ledger: Ledger) -> bool:
    """Their share in this step, if there was a request yet, is beyond what is tolerated, too."""
    seen = given_up(rules, ledger)
    return seen.beyond or not seen.total


def _material(materiality: float, ledger: Ledger) -> bool:
    """The error rate is higher than stable's by enough percentage points, lately or in the whole step."""
    n_c, x_c, n_s, x_s = ledger.recent
    if n_c > 0 and n_s > 0 and x_c / n_c - x_s / n_s >= materiality:
        return True
    canary, stable = ledger.canary, ledger.stable
    if not canary[N] or not stable[N]:
        return False
    return canary[X] / canary[N] - stable[X] / stable[N] >= materiality

"""Closing a cell: what its numbers add to the evidence and to the step's sums. Pure."""

from __future__ import annotations

import math
from operator import add

from phoenix_orch.health_validator.books import (
    EDGES,
    FAIL,
    FEW,
    LOW,
    NOTHING,
    SHAPE,
    VERSUS,
    A,
    Block,
    Four,
    GaugeBook,
    Guard,
    Lanes,
    Ledger,
    N,
    Numbers,
    Phi,
    Recent,
    T,
    X,
)
from phoenix_orch.health_validator.environment import SICK, recovered, shared_fault, sickness
from phoenix_orch.health_validator.rules import QUANTILES, Bound, Gauge, Rules
from phoenix_orch.health_validator.sequential import absolute, mixture, relative
from phoenix_orch.health_validator.sequential.mixture import Mixture

RECENT = 5
"""Windows over which the recent rates fade."""

BURST = 20
"""Requests in one cell of which half have to fail to be enough for a conviction."""

NEAR = 0.5
"""A gauge below this part of its limit is fine, however low stable's is."""

FLOORS = 10
"""Windows that a leak is looked for in."""

UNUSUAL = 0.05
"""Where there is no stable to compare with, a share of requests given up on below this is never too high."""

ENOUGH = 50
"""Requests of stable from which on what is usual is known."""

FOUR: Four = (0.0, 0.0, 0.0, 0.0)

_new = tuple.__new__
"""As in `mixture`."""


def opened(rules: Rules, lanes: Lanes) -> Ledger:
    """Before anything was seen."""
    three = (mixture.fresh(FAIL), mixture.fresh(FEW), mixture.fresh(VERSUS))
    two = (mixture.fresh(FAIL), mixture.fresh(FEW))
    return Ledger(
        cell=0,
        fresh=True,
        observed_ms=0,
        step_cell=-1,
        canary=NOTHING,
        stable=NOTHING,
        requests=0,
        business=(FOUR,) * len(rules.counters),
        recent=FOUR,
        guard=Guard(),
        sick=(-1,) * (1 + len(QUANTILES) + len(rules.business)),
        errors=three,
        latency=(two, two),
        shape=(mixture.fresh(SHAPE),) * len(lanes.edges),
        bounds=(three,) * len(rules.business),
        gauges=tuple(GaugeBook(mixture.fresh(FEW)) for _ in rules.gauges),
        minute=0,
        floors=(),
        abandoned=mixture.fresh(SHAPE),
        usual=(0, 0),
    )


def next_step(rules: Rules, ledger: Ledger) -> Ledger:
    """The step's sums are zero again; evidence goes on."""
    return ledger._replace(
        fresh=True,
        observed_ms=0,
        step_cell=-1,
        canary=NOTHING,
        stable=NOTHING,
        requests=0,
        business=(FOUR,) * len(rules.counters),
        gauges=tuple(book._replace(minutes=0, bad=0) for book in ledger.gauges),
        floors=(),
    )


def settle(rules: Rules, ledger: Ledger, block: Block, recent: Recent, *, lanes: Lanes, phi: Phi) -> Ledger:
    """The ledger with `block` closed. `recent`: sums of the rolling window that ends with the block."""
    # Taken apart, changed and put together in the order of its fields: to hand over twenty names costs a
    # hundredth of a verdict.
    (cell, fresh, observed_ms, step_cell, ours, theirs, requests, business, fading, guard, sick) = ledger[:11]
    (errors, latency, shape, bounds, gauges, minute, floors, abandoned, (arrived, left)) = ledger[11:]
    canary, stable, pair, totals = block.canary, block.stable, block.pair, block.total
    staked = 0.0
    if canary[N] or stable[N] or canary[A] or stable[A]:
        cell = block.cell
        staked = _staked(rules, ledger, cell)
        if rules.error_lines is not None:
            errors = _errors(rules, phi, errors, block, staked)
        if canary[T] or stable[T]:
            latency = _latency(rules, phi, latency, block, staked)
        if pair is not None and pair[0][T] and pair[1][T]:
            shape = _shape(rules, lanes, shape, pair, staked)
        guard = _guard(guard, canary)
        fading = _faded(rules, ledger, block)
        # The question is whose they were: without any there is none, and nothing is staked.
        if rules.step.weight == 100 or (pair is not None and (pair[0][A] or pair[1][A])):
            abandoned = _abandoned(rules, ledger, block, staked, phi[3])
    answered = canary[N] > 0 or not canary[A]
    if block.good and answered and shared_fault(rules, sick, recent.canary, business) < 0:
        observed_ms += block.ms
    if totals is not None:
        fresh = fresh and canary[N] + canary[A] == 0
        step_cell = block.cell if step_cell < 0 else step_cell
        ours, theirs = sums(ours, totals[0]), sums(theirs, totals[1])
        requests += totals[0][N]
    sick = sickness(rules, sick, block.cell, (errors, latency), recent, phi=phi)
    step = (cell, fresh, observed_ms, step_cell, ours, theirs, requests, business, fading, guard, sick)
    tests = (errors, latency, shape, bounds, gauges, minute, floors, abandoned)
    settled = _new(Ledger, (*step, *tests, (arrived + stable[N] + stable[A], left + stable[A])))
    if rules.business and block.business:
        settled = _with_business(rules, settled, block, staked)
    if rules.gauges:
        settled = _with_gauges(rules, settled, block)
    return settled if settled.sick == ledger.sick else recovered(ledger.sick, settled)


def sums(first: Numbers, second: Numbers) -> Numbers:
    """Place by place; the shorter one stood before the lanes were known."""
    if len(first) == len(second):
        return tuple(map(add, first, second))
    longer, shorter = (first, second) if len(first) > len(second) else (second, first)
    return tuple(map(add, longer, (*shorter, *[0] * (len(longer) - len(shorter)))))


# -- evidence --------------------------------------------------------------------------------------


def _staked(rules: Rules, ledger: Ledger, cell: int) -> float:
    """The part of what is left that is staked on a fault beginning since the last numbers."""
    onset = rules.parameters.onset
    if ledger.fresh:
        return onset.step
    gone = cell - ledger.cell
    return onset.later if gone <= 1 else -math.expm1(gone * math.log1p(-onset.later))


def _stake(test: Mixture, rules: Rules, staked: float) -> float:
    """More on a test's own first look."""
    return staked if test[1][0] else rules.first_stake


def _errors(
    rules: Rules, phi: Phi, tests: tuple[Mixture, Mixture, Mixture], block: Block, staked: float
) -> tuple[Mixture, Mixture, Mixture]:
    lines = rules.error_lines or ()
    spread = phi[0]
    first, second, third = tests
    n, x = block.canary[N], block.canary[X]
    if n:
        first = mixture.linear(first, _stake(first, rules, staked), x / spread, (n - x) / spread, lines)
    n, x = block.stable[N], block.stable[X]
    if n:
        beside = rules.stable_error_lines or ()
        second = mixture.linear(second, _stake(second, rules, staked), x / spread, (n - x) / spread, beside)
    if block.pair is not None:
        canary, stable = block.pair
        if canary[N] and stable[N]:
            counts = (canary[N], canary[X], stable[N], stable[X])
            odds = rules.parameters.error_odds
            third = relative.compare(third, _stake(third, rules, staked), counts, odds, dispersion=spread)
    return first, second, third


def _abandoned(rules: Rules, ledger: Ledger, block: Block, staked: float, spread: float) -> Mixture:
    """Against stable in the same seconds. At full weight stable gets nothing, and the share is held against
    what is tolerated beside what was usual for stable earlier in this release."""
    test, odds = ledger.abandoned, rules.parameters.abandoned_odds
    if rules.step.weight < 100:
        if block.pair is None:
            return test
        ours, theirs = block.pair
        x, beside = ours[A], theirs[A]
        counts = (ours[N] + x, x, theirs[N] + beside, beside)
        if not counts[0] or not counts[2]:
            return test
        stake, few = _stake(test, rules, staked), relative.FEW_TERMS
        return relative.compare(test, stake, counts, odds, dispersion=spread, terms=few)
    n, x = block.canary[N], block.canary[A]
    limit = tolerated(odds, ledger.usual)
    if limit is None or not n + x:
        return test
    lines = absolute.fail_lines(limit, relative.FEW)
    return absolute.update(test, _stake(test, rules, staked), x, n, lines, dispersion=spread)


def tolerated(odds: float, usual: tuple[int, int]) -> float | None:
    """The share of requests given up on that has `odds` times the odds of what is `usual`: all requests, and
    those given up on. None: too little is known."""
    total, left = usual
    if total < ENOUGH:
        return None
    beyond = odds * (left + 1) / (total - left + 1)
    return max(UNUSUAL, beyond / (1 + beyond))


def _latency(
    rules: Rules, phi: Phi, tests: tuple[tuple[Mixture, Mixture], ...], block: Block, staked: float
) -> tuple[tuple[Mixture, Mixture], ...]:
    found = list(tests)
    for place in rules.quantiles:
        if rules.latency_limits[place] is None:
            continue
        lines, low, spread = rules.latency_lines[place], LOW + 2 * place, phi[1 + place]
        first, second = found[place]
        n, x = block.canary[T], block.canary[low]
        if n:
            first = mixture.linear(first, _stake(first, rules, staked), x / spread, (n - x) / spread, lines)
        n, x = block.stable[T], block.stable[low]
        if n:
            lines = rules.stable_latency_lines[place]
            second = mixture.linear(
                second, _stake(second, rules, staked), x / spread, (n - x) / spread, lines
            )
        found[place] = (first, second)
    return tuple(found)


def _shape(
    rules: Rules, lanes: Lanes, tests: tuple[Mixture, ...], pair: tuple[Numbers, Numbers], staked: float
) -> tuple[Mixture, ...]:
    canary, stable = pair
    if len(canary) != len(stable):
        return tests
    return relative.compare_edges(
        tests,
        (staked, rules.first_stake),
        (canary[T], stable[T]),
        zip(canary[EDGES:], stable[EDGES:], lanes.odds, lanes.spread, strict=True),
    )


def _guard(guard: Guard, canary: Numbers) -> Guard:
    bad, cells, burst, timed, left = guard
    n, x = canary[N], canary[X]
    if x:
        bad, cells = bad + x, cells + 1
        burst = burst or (n >= BURST and 2 * x >= n)
    return _new(Guard, (bad, cells, burst, timed + canary[T], left + 1 if canary[A] else left))


def _faded(rules: Rules, ledger: Ledger, block: Block) -> Four:
    keep = math.exp(-(block.cell - ledger.cell) / (RECENT * rules.window_cells))
    first, second, third, fourth = ledger.recent
    if block.pair is None:
        return first * keep, second * keep, third * keep, fourth * keep
    canary, stable = block.pair
    return (
        first * keep + canary[N],
        second * keep + canary[X],
        third * keep + stable[N],
        fourth * keep + stable[X],
    )


# -- business metrics and gauges -------------------------------------------------------------------


def _with_business(rules: Rules, ledger: Ledger, block: Block, staked: float) -> Ledger:
    spread = rules.parameters.resource_dispersion
    sick, bounds = list(ledger.sick), list(ledger.bounds)
    for place, bound in enumerate(rules.business):
        count_c, n_c, count_s, n_s = block.business[bound.place]
        first, second, third = bounds[place]
        if n_c:
            first = mixture.linear(
                first, _stake(first, rules, staked), count_c / spread, n_c / spread, bound.lines
            )
        if n_s:
            second = mixture.linear(
                second, _stake(second, rules, staked), count_s / spread, n_s / spread, bound.stable_lines
            )
        if n_c and n_s and block.pair is not None:
            third = _bound_beside_stable(rules, bound, third, block.business[bound.place], staked)
        bounds[place] = (first, second, third)
        seat = 1 + len(QUANTILES) + place
        sick[seat] = _sick_bound(sick[seat], block.cell, second, bound, ledger.business[bound.place])
    total = tuple(
        (a + e, b + f, c + g, d + h)
        for (a, b, c, d), (e, f, g, h) in zip(ledger.business, block.business, strict=True)
    )
    return ledger._replace(
        bounds=tuple(bounds),
        sick=tuple(sick),
        business=total if block.total is not None else ledger.business,
    )


def _bound_beside_stable(rules: Rules, bound: Bound, test: Mixture, four: Four, staked: float) -> Mixture:
    """A floor is broken by fewer events: the variants change places."""
    count_c, n_c, count_s, n_s = four
    if bound.at_least:
        count_c, n_c, count_s, n_s = count_s, n_s, count_c, n_c
    m, q = relative.poisson_bound(n_c, n_s, count_c + count_s, rules.parameters.business_odds)
    spread = rules.parameters.resource_dispersion
    return relative.update(test, _stake(test, rules, staked), (count_c / spread, m / spread, q))


def _sick_bound(since: int, cell: int, test: Mixture, bound: Bound, seen: Four) -> int:
    """Business events have no rolling window: stable is well again when the step's sums say so."""
    if since < 0:
        return cell if test.value >= SICK else -1
    rate = seen[2] / seen[3] if seen[3] else None
    if rate is None:
        return since
    return -1 if (rate >= bound.limit if bound.at_least else rate <= bound.limit) else since


def _with_gauges(rules: Rules, ledger: Ledger, block: Block) -> Ledger:
    minute = block.cell // rules.window_cells
    books = list(ledger.gauges)
    floors = ledger.floors
    if minute != ledger.minute:
        for place, gauge in enumerate(rules.gauges):
            book = books[place]
            if gauge.metric == "memory" and book.now[1] > 0:
                floors = (*floors, round(book.now[0] / book.now[1]))[-FLOORS:]
            books[place] = _minute_over(rules, gauge, book)
    for place, four in enumerate(block.gauges):
        a, b, c, d = books[place].now
        books[place] = books[place]._replace(now=(a + four[0], b + four[1], c + four[2], d + four[3]))
    return ledger._replace(gauges=tuple(books), minute=minute, floors=floors)


def _minute_over(rules: Rules, gauge: Gauge, book: GaugeBook) -> GaugeBook:
    sum_c, ms_c, sum_s, ms_s = book.now
    if ms_c <= 0:
        return book._replace(now=FOUR)
    value = sum_c / ms_c
    beside = sum_s / ms_s if ms_s > 0 else None
    bad = is_bad(rules, gauge, value, beside)
    if bad is None:
        return book._replace(now=FOUR, last=value)
    spread = rules.parameters.resource_dispersion
    onset = rules.parameters.onset
    staked = onset.later if book.test.weights[0] else onset.first
    test = absolute.update(book.test, staked, bad, 1 - bad, rules.gauge_lines, dispersion=spread)
    return GaugeBook(test, book.minutes + 1, book.bad + bad, FOUR, value)


def is_bad(rules: Rules, gauge: Gauge, value: float, beside: float | None) -> bool | None:
    """Whether one minute's mean speaks against the canary. None: it says nothing of the version."""
    if gauge.limit is None:
        return None
    if gauge.at_least:
        if value >= gauge.limit:
            return False
        return None if beside is not None and beside < gauge.limit else True
    if value > gauge.limit:
        return None if beside is not None and beside > gauge.limit else True
    if not gauge.beside_stable or beside is None or value <= NEAR * gauge.limit:
        return False
    return value > (1 + rules.parameters.resource_tolerance) * beside

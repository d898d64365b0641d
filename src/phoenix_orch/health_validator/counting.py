"""One observation into the books of the statistical gate. Pure.

Counts of every observation that has any are evidence: a failed request is one at any weight and after any
gap. Time is harder to earn: a cell counts as watched when all of it was seen at the step's weight, with
no answer missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from itertools import accumulate
from operator import add, itemgetter, sub

from phoenix_orch.health_validator import histogram, ledger, pointrule, rules
from phoenix_orch.health_validator.books import (
    EDGES,
    NO_POINT,
    NOTHING,
    A,
    Block,
    Books,
    Four,
    Lanes,
    Ledger,
    N,
    Numbers,
    Phi,
    Recent,
    Slot,
    T,
    together,
)
from phoenix_orch.health_validator.config import PATIENCE, JudgeConfig
from phoenix_orch.health_validator.history import History
from phoenix_orch.health_validator.ledger import sums
from phoenix_orch.health_validator.observation import Arm, Observation, Quality
from phoenix_orch.health_validator.rules import Rules
from phoenix_orch.rollout.spec import Statistical

LANES = 7
"""Edges at which latency is compared with stable."""

ROUTED = 20
"""So many canary requests have to be missing before their absence says something."""

OK, MERGED, GAP = Quality.OK, Quality.MERGED, Quality.GAP
COUNTED = frozenset({OK, MERGED, Quality.PARTIAL})

NOTE = 100

_new = tuple.__new__


def begin(config: JudgeConfig, history: History, observation: Observation) -> Books:
    """Empty books before the release's first observation."""
    anchor = _ms(observation.t0)
    place = config.rules(observation.step)
    return Books(
        structure=config.structure,
        anchor=anchor,
        at=-1,
        weight=-1,
        quality=Quality.OK,
        note="",
        phi=dispersions(place, history),
        known=history.dispersion is not None,
        lanes=Lanes(),
        ledger=ledger.opened(place, Lanes()),
        block=Block(0),
        window=(),
        pending=None,
        warm=(0, anchor),
        silent=(0.0, 0),
        point=NO_POINT,
    )


def next_step(config: JudgeConfig, history: History, books: Books, before: int, step: int) -> Books:
    """Another step: its sums are zero and the rolling window is empty; evidence goes on."""
    place = config.rules(step)
    return replace(
        books,
        phi=dispersions(place, history),
        ledger=ledger.next_step(place, closed(config, books, before)),
        block=Block(0),
        window=(),
        silent=(0.0, 0),
        view=None,
        recent=None,
    )


def closed(config: JudgeConfig, books: Books, step: int) -> Ledger:
    """The ledger as if the open cell were closed; found again after a restart."""
    if books.view is not None:
        return books.view
    if not books.block.parts:
        return books.ledger
    recent = books.recent if books.recent is not None else together(books.window)
    return ledger.settle(
        config.rules(step), books.ledger, books.block, recent, lanes=books.lanes, phi=books.phi
    )


def add_observation(config: JudgeConfig, history: History, books: Books, observation: Observation) -> Books:
    """Take one observation that ends after the last one, at the same step."""
    place = config.rules(observation.step)
    weight = place.step.weight
    canary, stable = observation.canary, observation.stable
    t0, t1 = _ms(observation.t0), _ms(observation.t1)
    cell = max(1, -((books.anchor - t1) // place.interval_ms))
    lanes, before, block = books.lanes, books.ledger, books.block
    opens = cell != block.cell
    if opens:
        before = closed(config, books, observation.step)
    seen = books.weight if opens else block.before
    if not lanes.edges and (canary.buckets or (stable is not None and stable.buckets)):
        lanes = choose_lanes(config, history, canary, stable)
        before = before._replace(shape=ledger.opened(place, lanes).shape)
    thresholds = (*place.latency_limits, *lanes.edges)
    counted = canary.quality in COUNTED
    beside = stable is not None and stable.quality in COUNTED
    raw = numbers(canary, thresholds, certain=True) if counted else NOTHING
    theirs = numbers(stable, thresholds, certain=False) if stable is not None and beside else NOTHING
    arrived = theirs[N] + theirs[A]
    warm = _warm(place, books, canary, cell)
    cold = books.anchor + (cell - 1) * place.interval_ms < warm[1]
    mine = _without_latency(raw) if cold else raw
    matched = observation.weight_applied == weight
    good = (
        matched
        and canary.quality is OK
        and seen == weight
        and t0 <= books.at
        and t1 - t0 <= PATIENCE * place.interval_ms
    )
    pair, pending = None, books.pending
    if stable is not None:
        others = _without_latency(theirs) if cold else theirs
        merged = (canary.quality is MERGED) != (stable.quality is MERGED)
        if canary.dropped or stable.dropped:
            pending = None  # what the router counted for nobody never comes, so nothing waits for it
        else:
            pair, pending = _paired(
                place, pending, cell, mine if counted else None, others if beside else None, merged=merged
            )
    more = Block(
        cell,
        seen,
        1,
        t1 - max(t0, books.at) if good else 0,
        good,
        mine,
        theirs,
        pair,
        (mine, theirs) if matched and (counted or beside) else None,
        _business(place, canary if counted else None, stable if beside else None) if place.counters else (),
        _gauges(place, canary, stable, t1 - t0) if place.gauges else (),
    )
    block = more if opens else _into(block, more)
    routed = (raw[N] + raw[A], arrived) if good else (0, 0)
    slots = _slotted(place, books.window, cell, (*raw[:EDGES], *theirs[:EDGES], *routed))
    recent = _moved(books, slots)
    # By place, as `Block` above: to hand over so many names costs a hundredth of a verdict.
    return Books(
        books.structure,
        books.anchor,
        t1,
        observation.weight_applied,
        canary.quality,
        observation.notes[0][:NOTE] if observation.notes else "",
        books.phi,
        books.known,
        lanes,
        before,
        block,
        slots,
        pending,
        warm,
        _silent(place, books.silent, canary, arrived, t1) if matched else books.silent,
        pointrule.look(place, books.point, recent, t1),
        ledger.settle(place, before, block, recent, lanes=lanes, phi=books.phi),
        recent,
    )


# -- numbers ---------------------------------------------------------------------------------------


def numbers(arm: Arm, thresholds: tuple[float | None, ...], *, certain: bool) -> Numbers:
    """An arm's counts: requests, errors, given up on, timed, certainly and possibly slower than each of the
    first two thresholds, then slower than each further one: `certain`ly or possibly."""
    buckets = arm.buckets
    if arm.waited:
        buckets = histogram.with_waited(buckets, arm.waited, thresholds[:2])
    if not buckets:
        return (arm.requests, arm.errors, arm.abandoned, *[0] * (3 + len(thresholds)))
    uppers, counts = zip(*buckets, strict=True)
    tails = tuple(accumulate(reversed(counts), initial=0))
    return (arm.requests, arm.errors, arm.abandoned, *_picks(uppers, thresholds, certain)(tails))


@lru_cache(maxsize=512)
def _picks(
    uppers: tuple[float, ...], thresholds: tuple[float | None, ...], certain: bool
) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    """Takes the counts wanted, all of them first, out of sums that begin with 0 beyond the last bucket."""
    first, second, *further = rules.places(uppers, thresholds)
    wanted = [0, *first, *second, *[place[0 if certain else 1] for place in further]]
    return itemgetter(*[len(uppers) - place for place in wanted])


def choose_lanes(config: JudgeConfig, history: History, canary: Arm, stable: Arm | None) -> Lanes:
    """Edges that both variants have, from `latencyFloor` of the lowest limit to ten times of it."""
    middle = rules.reference(config.steps)
    if middle is None:
        return Lanes()
    layouts = [
        {edge for edge, _ in arm.buckets} for arm in (canary, stable) if arm is not None and arm.buckets
    ]
    given = config.statistical
    low, high = middle * given.latency_floor * (1 - 1e-9), middle * 10 * (1 + 1e-9)
    near = sorted(edge for edge in layouts[0].intersection(*layouts) if low <= edge <= high)
    if not near:
        return Lanes()
    chosen = histogram.thinned(near, LANES + 1, keep=[middle])[:-1]
    return Lanes(
        edges=chosen,
        odds=tuple(round(_tolerated(given, history, edge), 4) for edge in chosen),
        spread=tuple(history.dispersion_of(edge, given.dispersion_unknown) for edge in chosen),
    )


def _tolerated(given: Statistical, history: History, edge: float) -> float:
    if not history.edges:
        return max(given.latency_odds, given.latency_odds_unknown)
    return history.odds(
        edge, given.latency_tolerance, given.latency_odds, max(given.latency_odds, given.latency_odds_cap)
    )


def dispersions(place: Rules, history: History) -> Phi:
    """Of errors, of requests slower than the step's limits of p95 and p99, and of those given up on."""
    unknown = place.parameters.dispersion_unknown
    first, second = place.latency_limits
    return (
        history.dispersion if history.dispersion is not None else unknown,
        history.dispersion_of(first, unknown) if first is not None else unknown,
        history.dispersion_of(second, unknown) if second is not None else unknown,
        history.abandoned if history.abandoned is not None else unknown,
    )


def _without_latency(found: Numbers) -> Numbers:
    return (*found[:T], *[0] * (len(found) - T))


# -- parts of a block ------------------------------------------------------------------------------


def _into(block: Block, more: Block) -> Block:
    """A cell's numbers may come in several observations."""
    return Block(
        cell=block.cell,
        before=block.before,
        parts=block.parts + 1,
        ms=block.ms + more.ms,
        good=block.good and more.good,
        canary=sums(block.canary, more.canary),
        stable=sums(block.stable, more.stable),
        pair=_both(block.pair, more.pair),
        total=_both(block.total, more.total),
        business=_fours(block.business, more.business),
        gauges=_fours(block.gauges, more.gauges),
    )


def _both(
    first: tuple[Numbers, Numbers] | None, second: tuple[Numbers, Numbers] | None
) -> tuple[Numbers, Numbers] | None:
    if first is None or second is None:
        return first or second
    return sums(first[0], second[0]), sums(first[1], second[1])


def _fours(first: tuple[Four, ...], second: tuple[Four, ...]) -> tuple[Four, ...]:
    return tuple(
        (a + e, b + f, c + g, d + h) for (a, b, c, d), (e, f, g, h) in zip(first, second, strict=True)
    )


def _paired(
    place: Rules,
    pending: tuple[Numbers, Numbers, int] | None,
    cell: int,
    mine: Numbers | None,
    theirs: Numbers | None,
    *,
    merged: bool,
) -> tuple[tuple[Numbers, Numbers] | None, tuple[Numbers, Numbers, int] | None]:
    """Counts of both over the same seconds. One that did not answer (None) brings everything with its next
    answer, so the other's counts wait for it, for a window at most. `merged`: one of the two, and not the
    other, carries more than this interval."""
    if mine is not None and theirs is not None:
        if pending is None:
            return None if merged else (mine, theirs), None
        first, second, since = pending
        if cell - since > place.window_cells:
            return None, None
        return (sums(first, mine), sums(second, theirs)), None
    first, second, since = pending or (NOTHING, NOTHING, cell)
    if mine is not None:
        return None, (sums(first, mine), second, since)
    return None, (first, sums(second, theirs), since) if theirs is not None else pending


def _warm(place: Rules, books: Books, canary: Arm, cell: int) -> tuple[int, int]:
    """More processes than ever: their first requests are slow because they are new."""
    most, until = books.warm
    now = max(1, canary.processes)
    if now <= most:
        return books.warm
    begun = books.anchor + (cell - 1) * place.interval_ms
    return now, max(until, begun + round(place.parameters.warm_up.total_seconds() * 1000))


def _silent(place: Rules, silent: tuple[float, int], canary: Arm, beside: int, now: int) -> tuple[float, int]:
    """How many requests are missing since the canary's last one, and since when they are too many."""
    weight = place.step.weight
    if canary.requests or canary.abandoned:
        return 0.0, 0
    if weight >= 100 or canary.quality is GAP:
        return silent
    expected = silent[0] + beside * weight / (100 - weight)
    return expected, silent[1] or (now if expected >= ROUTED else 0)


def _business(place: Rules, canary: Arm | None, stable: Arm | None) -> tuple[Four, ...]:
    found = []
    for name in place.counters:
        four = [0.0, 0.0, 0.0, 0.0]
        for seat, arm in ((0, canary), (2, stable)):
            if arm is not None and name in arm.business:
                four[seat : seat + 2] = arm.business[name], arm.requests
        found.append((four[0], four[1], four[2], four[3]))
    return tuple(found)


def _gauges(place: Rules, canary: Arm, stable: Arm | None, ms: int) -> tuple[Four, ...]:
    found = []
    for gauge in place.gauges:
        mine, theirs = _reading(canary, gauge.metric), _reading(stable, gauge.metric)
        a, b = (mine * ms, float(ms)) if mine is not None else (0.0, 0.0)
        c, d = (theirs * ms, float(ms)) if theirs is not None else (0.0, 0.0)
        found.append((a, b, c, d))
    return tuple(found)


def _reading(arm: Arm | None, metric: str) -> float | None:
    if arm is None:
        return None
    if metric == "cpu":
        value = arm.cpu
    elif metric == "memory":
        value = arm.memory
    else:
        value = arm.values.get(metric.removeprefix("value/"))
    return value if value is not None and math.isfinite(value) else None


# -- the rolling window ----------------------------------------------------------------------------


def _slotted(place: Rules, slots: tuple[Slot, ...], cell: int, more: tuple[int, ...]) -> tuple[Slot, ...]:
    number = (cell - 1) // place.slot_cells
    oldest = number - place.slots
    if slots and slots[-1][0] == number:
        more = sums(slots[-1][1], more)
        slots = slots[:-1]
    if slots and slots[0][0] <= oldest:
        slots = tuple([slot for slot in slots if slot[0] > oldest])
    return (*slots, _new(Slot, (number, more)))


def _moved(books: Books, slots: tuple[Slot, ...]) -> Recent:
    """The window's sums, from those before where only one slot came and one went."""
    before = books.window
    if books.recent is None or len(slots) != len(before) or len(slots) < 2 or slots[0] is not before[1]:
        return together(slots)
    canary, stable, routed = books.recent
    old, new = before[0][1], slots[-1][1]
    sums_ = tuple(map(sub, map(add, (*canary, *stable, *routed), new), old))
    return _new(Recent, (sums_[:EDGES], sums_[EDGES : 2 * EDGES], sums_[-2:]))


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)

"""A mixture over the unknown beginning of a fault, and over how bad it is.

Source: the e-detectors of Shin, Ramdas and Rinaldo, with a total stake of 1, so that the probability of
a false alarm is bounded and not only its frequency.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from phoenix_orch.health_validator.sequential import unrolled

CAP = 1e100
"""Evidence is cut off here, which keeps it an e-process and every product finite."""

_LARGEST = math.log(CAP)

_new = tuple.__new__
"""Makes a Mixture at half the price of its name."""


class Mixture(NamedTuple):
    """Stakes of one test. `reserve` is what is not staked yet, `weights` one number per alternative."""

    reserve: float
    weights: tuple[float, ...]
    value: float
    """The e-process, their sum: 1 before the first look."""


def fresh(alternatives: int, reserve: float = 1.0) -> Mixture:
    """Nothing staked. A `reserve` below 1 is the fresh start after an outage that was nobody's fault."""
    return Mixture(reserve, (0.0,) * alternatives, reserve)


def _total(weights: Sequence[float]) -> float:
    """From left to right, as `unrolled` adds. `sum` compensates from Python 3.12 on: a test that was stored
    would go on with another last digit, and a replay not give the same (R6)."""
    total = 0.0
    for weight in weights:
        total += weight
    return total


def kept(reserve: float, weights: tuple[float, ...]) -> Mixture:
    """A test as it was stored."""
    return Mixture(reserve, weights, reserve + _total(weights))


def linear(
    mixture: Mixture, staked: float, x: float, y: float, lines: Sequence[tuple[float, float]]
) -> Mixture:
    """One block of a test whose log-likelihood ratios are a*x + b*y for each `(a, b)` of `lines`.

    Null: that of the test; each exp(a*x + b*y) has a conditional expectation of at most 1 under it.
    Guarantee: with `staked` (0..1, part of the reserve) fixed before the block is seen, the value stays an
    e-process: W_k <- (W_k + staked*reserve/K) * L_k, reserve <- reserve * (1 - staked).
    Shapes: as many lines as weights. Units: x and y are counts, divided by the dispersion (Jensen: L to a
    power of at most 1 is an e-variable if L is).
    """
    reserve, weights, _ = mixture
    stake = reserve * staked
    many = len(weights)
    each = stake / many
    try:
        if many == 8:
            weights, total = unrolled.linear_8(weights, each, x, y, lines)
        elif many == 4:
            weights, total = unrolled.linear_4(weights, each, x, y, lines)
        else:
            return grown(mixture, staked, [a * x + b * y for a, b in lines])
    except OverflowError:
        return grown(mixture, staked, [a * x + b * y for a, b in lines])
    reserve -= stake
    return _new(Mixture, (reserve, weights, reserve + total)) if total < CAP else closed(reserve, weights)


def grown(mixture: Mixture, staked: float, logs: Sequence[float]) -> Mixture:
    """One block of a test, given the logarithms of its likelihood ratios. As `linear`; logs may be huge."""
    reserve, weights, _ = mixture
    stake = reserve * staked
    each = stake / len(weights)
    moved = tuple(
        [(weight + each) * math.exp(min(log, _LARGEST)) for weight, log in zip(weights, logs, strict=True)]
    )
    return closed(reserve - stake, moved)


def idle(mixture: Mixture, staked: float) -> Mixture:
    """A block that says nothing: every likelihood ratio is 1, the stakes are placed all the same."""
    reserve, weights, _ = mixture
    stake = reserve * staked
    each = stake / len(weights)
    return closed(reserve - stake, tuple([weight + each for weight in weights]))


def closed(reserve: float, weights: tuple[float, ...]) -> Mixture:
    """A block's result, cut off where it is beyond all measure."""
    total = _total(weights)
    if total < CAP:
        return _new(Mixture, (reserve, weights, reserve + total))
    weights = tuple([min(weight, CAP) for weight in weights])
    return Mixture(reserve, weights, reserve + _total(weights))

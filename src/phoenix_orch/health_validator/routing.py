"""Whether requests arrive as the weight says. Pure."""

from __future__ import annotations

import math

from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.books import Books
from phoenix_orch.health_validator.rules import Rules

ODDS = 1000.0
"""Evidence from which a share is not what the weight says."""

ROUTED = 20
"""At full weight: so many requests to stable are not chance."""


def misrouted(rules: Rules, books: Books, routed: tuple[int, int]) -> tuple[str, bool]:
    """What is wrong, and whether the canary gets nothing at all; empty when nothing is.

    `routed`: requests of canary and stable in the rolling window. A share between half and twice the
    weight is never wrong: sticky sessions are part of life.
    """
    canary, stable = routed
    weight, who = rules.step.weight, rules.who
    if books.silent[1]:
        missing = explain.number(round(books.silent[0]))
        return f"routing: {who} got none of the last {missing} requests that {weight} % should bring", True
    if weight == 100:
        lost = canary == 0 and stable >= ROUTED
        return (
            (f"routing: {who} gets no requests, stable got {stable} of them", True) if lost else ("", False)
        )
    everything = canary + stable
    if not everything or (weight * everything <= 200 * canary and 50 * canary <= weight * everything):
        return "", False
    if _evidence(canary, stable, weight / 100) < math.log(ODDS):
        return "", False
    share = explain.percent(canary / everything)
    return (
        f"routing: {who} got {explain.number(canary)} of {explain.number(everything)} requests = {share}, "
        f"{weight} % were to be expected"
    ), False


def _evidence(canary: int, stable: int, share: float) -> float:
    """Logarithm of the e-value against a binomial with `share`; the prior is Beta(1, (1-share)/share)."""
    a, b = 1.0, (1 - share) / share
    lgamma = math.lgamma
    mixture = lgamma(a + canary) + lgamma(b + stable) - lgamma(a + b + canary + stable)
    mixture -= lgamma(a) + lgamma(b) - lgamma(a + b)
    return mixture - canary * math.log(share) - stable * math.log1p(-share)

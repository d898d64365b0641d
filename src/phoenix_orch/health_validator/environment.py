"""Whether stable is beyond a limit as well, so that the limit says nothing of the version. Pure."""

from __future__ import annotations

import math

from phoenix_orch.health_validator.books import (
    FAIL,
    FEW,
    LOW,
    A,
    Four,
    Ledger,
    N,
    Numbers,
    Phi,
    Recent,
    T,
    X,
)
from phoenix_orch.health_validator.rules import QUANTILES, Rules
from phoenix_orch.health_validator.sequential import mixture
from phoenix_orch.health_validator.sequential.mixture import Mixture

SICK = 20.0
"""Evidence from which stable counts as beyond its limit."""

RECOVERED = 0.25
"""Stake of a test against a limit that begins anew after an outage."""


def sickness(
    rules: Rules,
    before: tuple[int, ...],
    cell: int,
    tests: tuple[tuple[Mixture, ...], tuple[tuple[Mixture, Mixture], ...]],
    recent: Recent,
    *,
    phi: Phi,
) -> tuple[int, ...]:
    """Since when stable has been beyond each of its limits, for errors and latency.

    `phi`: the dispersion of each.
    """
    if not recent.stable[N] and max(before) < 0:
        return before
    errors, latency = tests
    found = list(before)
    if rules.error_limit is not None:
        found[0] = _sick(before[0], cell, (errors[0], errors[1]), recent, (X, N, rules.error_limit, phi[0]))
    for place in rules.quantiles:
        if rules.latency_limits[place] is not None:
            counted = (LOW + 2 * place, T, QUANTILES[place][1], phi[1 + place])
            found[1 + place] = _sick(before[1 + place], cell, latency[place], recent, counted)
    return tuple(found)


def _sick(
    since: int,
    cell: int,
    tests: tuple[Mixture, Mixture],
    recent: Recent,
    counted: tuple[int, int, float, float],
) -> int:
    """Evidence of an outage does not go away with it, so only the window says that it is over."""
    place, of, limit, spread = counted
    bad, total = recent.stable[place], recent.stable[of]
    usual = total * limit
    error = math.sqrt(spread * usual)
    many = bad >= 3 + usual + 4 * error
    if since >= 0:
        return -1 if total > 0 and not many and bad <= usual + error else since
    if many or tests[1][2] >= SICK:
        return cell
    if tests[0][2] < SICK or not bad:
        return -1
    # The canary is broken. At high weights an outage shows in it first, while stable has few requests.
    seen = (recent.canary[place], recent.canary[of], bad, total)
    return cell if alike(seen, limit) else -1


def alike(seen: tuple[float, float, float, float], limit: float) -> bool:
    """Whether stable may be as bad as a canary beyond its limit: bad and all requests of both.

    It has to be within three standard errors of the canary's rate, and half as bad as the limit, so that
    good minutes in the same sums do not hide it.
    """
    x_c, n_c, x_s, n_s = seen
    if n_c <= 0 or x_s <= 0:
        return False
    expected = n_s * x_c / n_c
    return 2 * x_s >= min(limit * n_s, expected) and x_s >= expected - 3 * math.sqrt(expected)


def shared_fault(rules: Rules, sick: tuple[int, ...], recent: Numbers, business: tuple[Four, ...]) -> int:
    """The place of a limit that stable and the canary are beyond at the same time; -1: there is none.

    `recent`: the canary in the rolling window; business metrics are compared over the step.
    """
    if max(sick) < 0:
        return -1
    for place, since in enumerate(sick):
        if since < 0:
            continue
        if place == 0:
            broken = rules.error_limit is not None and recent[X] > rules.error_limit * recent[N]
        elif place <= len(QUANTILES):
            slow, share = recent[LOW + 2 * (place - 1)], QUANTILES[place - 1][1]
            broken = rules.latency_limits[place - 1] is not None and slow > share * recent[T]
        else:
            bound = rules.business[place - 1 - len(QUANTILES)]
            events, total, _, _ = business[bound.place]
            allowed = bound.limit * total
            broken = events < allowed if bound.at_least else events > allowed
        if broken:
            return place
    return -1


def recovered(before: tuple[int, ...], ledger: Ledger) -> Ledger:
    """Begin anew where stable is well again: what was counted in the outage says nothing of the version."""
    canary, stable = list(ledger.canary), list(ledger.stable)
    errors, latency, bounds, business = ledger.errors, list(ledger.latency), list(ledger.bounds), None
    for place, (was, now) in enumerate(zip(before, ledger.sick, strict=True)):
        if was < 0 or now >= 0:
            continue
        begun, beside = mixture.fresh(FAIL, RECOVERED), mixture.fresh(FEW, RECOVERED)
        if place == 0:
            errors = (begun, beside, errors[2])
            canary[: A + 1] = stable[: A + 1] = (0,) * (A + 1)
        elif place <= len(QUANTILES):
            latency[place - 1] = (begun, beside)
            canary[T:] = [0] * (len(canary) - T)
            stable[T:] = [0] * (len(stable) - T)
        else:
            bound = place - 1 - len(QUANTILES)
            bounds[bound] = (begun, beside, bounds[bound][2])
            business = ((0.0, 0.0, 0.0, 0.0),) * len(ledger.business)
    return ledger._replace(
        canary=tuple(canary),
        stable=tuple(stable),
        errors=errors,
        latency=tuple(latency),
        bounds=tuple(bounds),
        business=ledger.business if business is None else business,
    )

"""The end of a step: go on, take more time, take back, or ask. Pure.

The guide's point threshold made honest: an observed value beyond its limit takes a release back when that
is more than chance, and one within its limit is a pass when there were requests enough to say so.
"""

from __future__ import annotations

from datetime import timedelta

from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.books import A, Ledger, N
from phoenix_orch.health_validator.foreseen import little_to_lose
from phoenix_orch.health_validator.leak import leak
from phoenix_orch.health_validator.ledger import is_bad
from phoenix_orch.health_validator.measures import Measure
from phoenix_orch.health_validator.observation import Category, Tier, VerdictKind
from phoenix_orch.health_validator.opinion import Opinion
from phoenix_orch.health_validator.reasons import Reasons
from phoenix_orch.health_validator.rules import Rules
from phoenix_orch.health_validator.sequential import poisson

ENOUGH = 3.0
"""Independent events that a limit has to allow before one standard error says something."""

FEWEST = 10
"""No policy lets fewer canary requests pass (rule R1)."""


def proven(rules: Rules, ledger: Ledger, found: list[Measure]) -> bool:
    """Before the step's time is over: everything is known, and every limit proven."""
    given = rules.parameters
    return (
        not missing(rules, ledger, found)
        and ledger.observed_ms >= rules.window_cells * rules.interval_ms
        and all(measure.tier(given.alpha_pass, given.likely_factor) is Tier.PROVEN for measure in found)
        and not _broken(rules, ledger)
    )


def decide(rules: Rules, ledger: Ledger, found: list[Measure], words: Reasons) -> Opinion:
    """The opinion once the step's time is over, and at every look from then on."""
    given = rules.parameters
    planned = rules.step.duration / timedelta(milliseconds=1)
    used = ledger.observed_ms / planned if planned > 0 else given.hold
    extended, held = used >= given.extension, used >= given.hold
    if few := missing(rules, ledger, found):
        return _undecided(words, words.over(few), found, extended=extended, held=held)
    if opinion := _beyond(rules, ledger, found, words, extended=extended, held=held):
        return opinion
    tiers = [measure.tier(given.alpha_pass, given.likely_factor) for measure in found]
    if all(tier is Tier.PROVEN for tier in tiers):
        return Opinion(VerdictKind.ADVANCE, words.passed(Tier.PROVEN), tier=Tier.PROVEN)
    if given.tier == "likely" and None not in tiers:
        return Opinion(VerdictKind.ADVANCE, words.passed(Tier.LIKELY), tier=Tier.LIKELY)
    seconds = ledger.observed_ms / 1000
    if extended and little_to_lose(rules, requests=ledger.requests, seconds=seconds, found=found):
        return Opinion(VerdictKind.ADVANCE, words.passed(Tier.THIN), tier=Tier.THIN)
    short = [
        measure
        for measure, tier in zip(found, tiers, strict=True)
        if tier is None or (tier is not Tier.PROVEN and given.tier == "proven")
    ]
    reason = words.over(words.needed(short[0]))
    calm = not any(measure.beyond for measure in found)
    return _undecided(words, reason, found, extended=extended, held=held, may_promote=calm)


def missing(rules: Rules, ledger: Ledger, found: list[Measure]) -> str:
    """What is not known at all, or from too few requests; empty when nothing is."""
    need = max(FEWEST, rules.min_requests)
    requests = min(ledger.requests, ledger.canary[N]) if rules.error_limit is not None else ledger.requests
    if requests < need:
        short, left = need - requests, ledger.canary[A]
        missed = f"; clients gave up on {explain.number(left)}" if left else ""
        return f"{rules.who} got {requests} of the {need} requests needed: {short} more{missed}"
    for measure in found:
        name = explain.title(measure.metric)
        if measure.total <= 0:
            return f"nothing is known about {name}, which has a limit"
        if measure.total < need:
            return f"{name} is known for {measure.total:.0f} of the {need} requests needed"
    for gauge, book in zip(rules.gauges, ledger.gauges, strict=True):
        if gauge.limit is not None and book.last is None and book.now[1] <= 0:
            return f"nothing is known about {explain.title(gauge.metric)}, which has a limit"
    return ""


def _undecided(
    words: Reasons,
    reason: str,
    found: list[Measure],
    *,
    extended: bool,
    held: bool,
    may_promote: bool = False,
) -> Opinion:
    """`found`: every limit's counts; `may_promote`: all is known and within its limit."""
    if not held:
        reason = f"{reason}; {words.unless(found, calm=may_promote)}"
    if not extended:
        return Opinion(VerdictKind.EXTEND, reason, category=Category.SAMPLE)
    if not held or words.on_no_decision == "pause":
        asked = f"{reason}; a person has to decide" if held else reason
        return Opinion(VerdictKind.HOLD, asked, category=Category.NO_DECISION if held else Category.SAMPLE)
    if words.on_no_decision == "promote" and may_promote:
        return Opinion(VerdictKind.ADVANCE, f"{reason}; promoted by policy", tier=Tier.THIN)
    if words.on_no_decision == "promote":
        return Opinion(VerdictKind.HOLD, reason, category=Category.NO_DECISION)
    return Opinion(VerdictKind.ROLLBACK, f"undecided: {reason}", category=Category.NO_DECISION)


def _beyond(
    rules: Rules, ledger: Ledger, found: list[Measure], words: Reasons, *, extended: bool, held: bool
) -> Opinion | None:
    """What an observed value beyond its limit amounts to; None when it is no obstacle."""
    beyond = [measure for measure in found if measure.beyond]
    guilty = [measure for measure in beyond if not measure.shared and _clearly(measure, rules, extended)]
    if guilty:
        worst = max(guilty, key=Measure.z)
        blame = tuple(dict.fromkeys(m.metric for m in sorted(guilty, key=Measure.z, reverse=True)))
        return Opinion(VerdictKind.ROLLBACK, words.missed(worst), blame=blame, category=Category.GATE)
    if sick := [measure for measure in beyond if measure.shared]:
        if not extended:
            return Opinion(VerdictKind.EXTEND, words.both(sick[0]), category=Category.ENVIRONMENT)
        return Opinion(VerdictKind.HOLD, words.both(sick[0]), category=Category.ENVIRONMENT)
    if opinion := _resources(rules, ledger, words, extended=extended):
        return opinion
    if close := [m for m in beyond if m.limit * m.total >= 1]:
        reason = words.over(words.close(close[0]))
        return _undecided(words, reason, found, extended=extended, held=held)
    if open_ := [m for m in found if not m.beyond and not m.at_least and m.maybe > m.limit * m.total]:
        limit = explain.shown(open_[0].metric, words.limit(open_[0]))
        name = explain.title(open_[0].metric)
        reason = f"the histogram cannot tell whether {name} is within {limit}: make that an edge"
        return _undecided(words, words.over(reason), found, extended=extended, held=held)
    return None


def _clearly(measure: Measure, rules: Rules, extended: bool) -> bool:
    """More than chance: as rare as two standard errors of a normal law, after the extension as one where
    there is enough to see. Clustered events tell as much as their clusters do."""
    if measure.limit * measure.total < 1:
        return False
    given = rules.parameters
    needed = given.z_extended if extended and measure.effective >= ENOUGH else given.z
    return measure.chance() <= poisson.level(needed)


def _resources(rules: Rules, ledger: Ledger, words: Reasons, *, extended: bool) -> Opinion | None:
    broken = _broken(rules, ledger) or leak(rules, ledger)
    if not broken:
        return None
    metric, reason = broken
    if not extended:
        return Opinion(VerdictKind.EXTEND, words.over(reason), category=Category.SAMPLE)
    return Opinion(VerdictKind.ROLLBACK, reason, blame=(metric,), category=Category.GATE)


def _broken(rules: Rules, ledger: Ledger) -> tuple[str, str] | None:
    """A gauge that was beyond its limit in more minutes than a healthy one may be."""
    for gauge, book in zip(rules.gauges, ledger.gauges, strict=True):
        if gauge.limit is None:
            continue
        sum_c, ms_c, sum_s, ms_s = book.now
        value = sum_c / ms_c if ms_c > 0 else book.last
        if value is None:
            continue
        if book.minutes:
            bad = book.bad > rules.parameters.resource_odds * book.minutes
        else:
            bad = is_bad(rules, gauge, value, sum_s / ms_s if ms_s > 0 else None) is True
        if bad:
            shown, limit = explain.shown(gauge.metric, value), explain.shown(gauge.metric, gauge.limit)
            count = f" in {book.bad} of {book.minutes} minutes" if book.minutes else ""
            return gauge.metric, (
                f"{explain.title(gauge.metric)} of {rules.who} was beyond its limit{count}: "
                f"{shown}, limit {limit}"
            )
    return None

"""What becomes of a step that is not known well enough: when, and by which word of the policy. Pure.

One rule for the gate, the plan and the explanation. Foreseen is what comes if requests keep arriving as
they do and none of those to come is bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple

from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.measures import Measure
from phoenix_orch.health_validator.rules import Rules
from phoenix_orch.health_validator.sequential import interval


class End(StrEnum):
    """How such a step ends."""

    THIN = "thin"  # it goes on: so few requests come in the next step that little can be lost
    PAUSE = "pause"  # a person has to decide
    PROMOTE = "promote"  # it goes on by policy
    ROLLBACK = "rollback"  # it is taken back by policy
    HOLD = "hold"  # it stays where it is


class Foreseen(NamedTuple):
    """The end, and after how much time of the step."""

    end: End
    after: timedelta


def little_to_lose(rules: Rules, *, requests: float, seconds: float, found: Sequence[Measure]) -> bool:
    """Few enough requests come in the next step that even the worst case loses little.

    `requests` of the canary in `seconds` of this step.
    """
    if seconds <= 0 or any(measure.at_least for measure in found):
        return False
    weight, duration = rules.following or (rules.step.weight, rules.step.duration.total_seconds())
    coming = (requests / seconds) * weight / rules.step.weight * duration
    given = rules.parameters
    for measure in found:
        _, upper = measure.bounds(given.alpha_pass)
        if upper * coming > max(rules.budget, measure.limit * coming):
            return False
    return True


def foreseen(
    rules: Rules,
    on_no_decision: str,
    *,
    requests: float,
    seconds: float,
    found: Sequence[Measure],
    calm: bool,
) -> Foreseen:
    """`found`: what counts can say of every limit; `calm`: all of it is known and within its limit."""
    given, planned = rules.parameters, rules.step.duration
    for factor in (given.extension, given.hold):
        end = planned * factor
        grown = end.total_seconds() / seconds if seconds > 0 else 1.0
        later = [measure._replace(total=measure.total * max(1.0, grown)) for measure in found]
        if calm and little_to_lose(
            rules, requests=requests * max(1.0, grown), seconds=max(seconds, end.total_seconds()), found=later
        ):
            return Foreseen(End.THIN, end)
    after = planned * max(given.extension, given.hold)
    if on_no_decision == "promote" and not calm:
        return Foreseen(End.HOLD, after)
    return Foreseen(End(on_no_decision), after)


def sentence(found: Foreseen, *, bake: bool = False) -> str:
    """`it goes on after 20m if nothing is wrong`."""
    after = explain.length(found.after)
    goes_on = "the bake ends" if bake else "it goes on"
    match found.end:
        case End.THIN:
            return f"{goes_on} after {after} if nothing is wrong, as few requests can be lost then"
        case End.PAUSE:
            return f"a person has to decide after {after} (onNoDecision: pause)"
        case End.PROMOTE:
            return f"{goes_on} after {after} if nothing is wrong (onNoDecision: promote)"
        case End.ROLLBACK:
            return f"it is taken back after {after} (onNoDecision: rollback)"
        case End.HOLD:
            return "it stays where it is"


def lacking(measure: Measure, rules: Rules, *, rate: float) -> str:
    """How many requests a limit still wants before the step can be left, and how long they take.

    `rate`: requests of the canary in a second.
    """
    need = needed(measure, rules)
    name, limit = explain.title(measure.metric), explain.percent(measure.limit)
    if need is None:
        return f"no number of requests can show that {name} keeps {limit}"
    failed = measure.metric == "errorRate"
    words = "error-free requests" if failed else f"requests within {name}"
    if measure.maybe:
        words = f"requests, no further one {'failed' if failed else 'slow'},"
    target, so_far = aim(measure, rules), explain.number(round(measure.total))
    given = rules.parameters
    wanted = f"to prove {explain.percent(target)}"
    if target > measure.limit:
        times = f"{given.likely_factor:g} times the {limit} allowed"
        wanted = f"to exclude {explain.percent(target)} ({times})"
    words = f"{explain.number(need)} {words} are needed {wanted}, {so_far} so far"
    return f"{words}{_eta(need - measure.total, rate)}"


def needed(measure: Measure, rules: Rules) -> int | None:
    """Requests in all that bring the limit to what the policy asks for, with no further bad one."""
    return interval.needed(
        round(measure.maybe),
        aim(measure, rules),
        limit=measure.limit,
        alpha=rules.parameters.alpha_pass,
        dispersion=measure.width,
    )


def aim(measure: Measure, rules: Rules) -> float:
    """The share of bad requests that has to be excluded before the step can be left."""
    given = rules.parameters
    return min(1.0, measure.limit * (1.0 if given.tier == "proven" else given.likely_factor))


def _eta(missing: float, rate: float) -> str:
    if rate <= 0 or missing <= 0:
        return ""
    return f", about {about(missing / rate)} at {explain.rate(rate)} requests/s"


def about(seconds: float) -> str:
    """A length as people estimate it: 17 min, 3.2 h, 40 d."""
    if seconds > 365 * 86_400:
        return "a year and longer"
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size * (1 if unit == "min" else 1.5):
            count = seconds / size
            return f"{count:.0f} {unit}" if count >= 10 or unit == "min" else f"{count:.2g} {unit}"
    return f"{max(1, round(seconds)):.0f} s"

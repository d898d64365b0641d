"""An explanation in words: the sentence, the four numbers, the notes. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import timedelta

from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.config import BAKE
from phoenix_orch.health_validator.observation import (
    Observation,
    Tier,
    Verdict,
    VerdictKind,
)
from phoenix_orch.health_validator.picture import (
    LATENCY,
    SLOWER,
    Known,
    Picture,
    Point,
    evidence_of,
)
from phoenix_orch.health_validator.recording import Header
from phoenix_orch.health_validator.rules import ABANDONED
from phoenix_orch.rollout.spec import Model, Step
from phoenix_orch.rollout.status import Cause

ALONE = "gets no requests to compare with at 100 % traffic"
"""Of stable."""

STRONGEST = 1_000_000
"""Rarer than one in so many is not told."""


class Number(Model):
    """One of the four numbers, ready to print."""

    name: str
    value: str
    meaning: str


def rarity(e: float) -> str:
    """In how many releases that are fine evidence so strong appears."""
    rounded = min(e, STRONGEST)
    digits = max(0, math.floor(math.log10(max(rounded, 1))) - 1)
    return f"fewer than 1 of {math.floor(rounded / 10**digits) * 10**digits:,}"


_STANDS = {
    VerdictKind.ADVANCE: "May advance",
    VerdictKind.EXTEND: "Needs more evidence",
    VerdictKind.HOLD: "Held",
    VerdictKind.CONTINUE: "No fault found so far",
}


_OUTCOMES = {"promoted": "Promoted", "cancelled": "Cancelled", "superseded": "Superseded"}


def beginning(
    header: Header, verdict: Verdict, cause: Cause | None, after: timedelta, *, place: Step, standing: str
) -> str:
    """What became of the release, or how it stands; for how long it was observed until then, and where."""
    if cause is not None and (cause.trigger != "verdict" or verdict.kind is not VerdictKind.ROLLBACK):
        return f"Rolled back at {cause.weight} % traffic by {cause.trigger}: {cause.reason}"
    weight = place.weight
    if verdict.kind is VerdictKind.ROLLBACK:
        return f"Rolled back after {spoken(after)} at {weight} % traffic"
    if header.outcome in _OUTCOMES:
        return f"{_OUTCOMES[header.outcome]}; observed for {spoken(after)}, at last at {weight} % traffic"
    now = "baking" if place.phase == BAKE else f"in phase {place.phase}"
    stands = f"{standing}: {_STANDS[verdict.kind].lower()}" if standing else _STANDS[verdict.kind]
    return f"{stands}; observed for {spoken(after)}, now {now} at {weight} % traffic"


def sentence(verdict: Verdict, opening: str, told: str, *, lacks: tuple[str, ...], ended: bool) -> str:
    """`lacks`: what is told beside it of a step that wants more evidence; `ended`: the release has."""
    if verdict.kind is VerdictKind.ADVANCE and verdict.tier is not None:
        opening += f", limits {_TIERS[verdict.tier]}"
    parts = [opening]
    if told:
        parts.append(told)
    if verdict.kind is VerdictKind.ROLLBACK and verdict.e is not None and verdict.e > 1:
        parts.append(
            f"if the release were healthy, evidence this strong ({explain.odds(verdict.e)}, all tests "
            f"together) would appear in {rarity(verdict.e)} rollouts"
        )
    waits = verdict.kind is VerdictKind.HOLD or (verdict.kind is VerdictKind.EXTEND and not lacks)
    if waits and not ended:
        parts.append(verdict.reason)
    if verdict.relative:
        kept = "rollback" if verdict.kind is VerdictKind.ROLLBACK else "hold"
        parts.append(
            "its limits alone would not have decided so, being worse than stable did "
            f"(policy.onRelativeRegression: {kept})"
        )
    if verdict.blame:
        parts.append(f"blamed: {', '.join(_blamed(verdict))}")
    return ". ".join(f"{part[:1].upper()}{part[1:]}" for part in parts) + "."


_TIERS = {
    Tier.PROVEN: "proven to be kept",
    Tier.LIKELY: "likely kept",
    Tier.THIN: "judged on few requests",
}


def _blamed(verdict: Verdict) -> list[str]:
    """`error rate against limit`, as in the reason of the verdict; without evidence the metric alone."""
    _, found, told = verdict.reason.partition("; blamed: ")
    return told.split(", ") if found else [explain.title(name) for name in verdict.blame]


def unshown(verdict: Verdict) -> str:
    """The judge's words for a latency worse than stable's of which the step has no numbers; else empty."""
    if verdict.kind is not VerdictKind.ROLLBACK or not verdict.convicts or not verdict.blame:
        return ""
    worst = verdict.blame[0]
    item = evidence_of(verdict, worst)
    apart = item is None or (item.slower is None and item.share_stable > item.share - item.share_stable)
    return verdict.reason.partition(". If the version")[0] if worst in LATENCY and apart else ""


def both(point: Point, drawn: Picture, verdict: Verdict) -> str:
    """Both variants in the present step, in words."""
    if point.canary is None:
        return ""
    known, percent = point.canary, explain.percent
    counted = _what(drawn.metric).format(bad=explain.number(known.bad), n=explain.number(known.requests))
    if drawn.metric == ABANDONED:
        text = f"{counted} = {percent(known.observed)} ({_interval(known, drawn)})"
        if point.stable is None:
            return text
        when = "in the same minutes" if point.weight < 100 else "earlier in this release"
        return f"{text}; they gave up on {percent(point.stable.observed)} of stable's {when}"
    if drawn.metric == SLOWER and drawn.edge is not None:
        text = (
            f"canary took longer than {explain.seconds(drawn.edge)} in {counted} = {percent(known.observed)}"
        )
        beside = f"; stable in {percent(point.stable.observed)}" if point.stable is not None else ""
        return f"{text} ({_interval(known, drawn)}){beside} in the same minutes"
    text = f"canary {counted} = {percent(known.observed)} ({_allowed(known, point, drawn, verdict)})"
    if point.weight == 100:
        return f"{text}; stable {ALONE}"
    if point.stable is None:
        return text
    return f"{text}; stable {_verb(drawn.metric)} {percent(point.stable.observed)} in the same minutes"


def _what(metric: str) -> str:
    if metric == "errorRate":
        return "failed {bad} of {n} requests"
    if metric == SLOWER:
        return "{bad} of {n} requests"
    if metric == ABANDONED:
        return "clients gave up on {bad} of {n} requests to the canary"
    return "was slower than the limit in {bad} of {n} requests"


def _verb(metric: str) -> str:
    return "failed" if metric == "errorRate" else "was in"


def _interval(known: Known, drawn: Picture) -> str:
    """`95 % interval 0.13-0.65 %`."""
    return f"{explain.percent(drawn.confidence)} interval {explain.interval(known.lower, known.upper)}"


def _allowed(known: Known, point: Point, drawn: Picture, verdict: Verdict) -> str:
    """The canary's interval, where it may stand beside the evidence, and the limit."""
    item = evidence_of(verdict, drawn.metric)
    convicted = item is not None and "limit" in item.blamed
    parts = []
    if explain.tells(known.lower, known.upper, point.limit, convicted=convicted):
        parts.append(_interval(known, drawn))
    if point.limit is not None:
        parts.append(f"limit {explain.percent(point.limit)}")
    return ", ".join(parts)


def spoken(length: timedelta) -> str:
    """`3 min 30 s`."""
    seconds = round(length.total_seconds())
    parts = [
        f"{count} {unit}"
        for count, unit in (
            (seconds // 3600, "h"),
            (seconds // 60 % 60, "min"),
            (seconds % 60 if seconds < 3600 else 0, "s"),
        )
        if count
    ]
    return " ".join(parts) or "0 s"


def numbers(
    verdict: Verdict, point: Point, drawn: Picture, seen: Sequence[Observation], until: str
) -> tuple[Number, ...]:
    """Canary, stable, evidence, exposed requests. `until`: see `end`."""
    what = {"errorRate": "failed", ABANDONED: "given up on"}.get(drawn.metric, "slower than the limit")
    if drawn.edge is not None:
        what = f"took longer than {explain.seconds(drawn.edge)}"
    found = []
    for name, known in (("canary", point.canary), ("stable", point.stable)):
        if known is None:
            alone = name == "stable" and point.weight == 100
            meaning = ALONE if alone else "no requests in this step"
            found.append(Number(name=name, value="-", meaning=meaning))
            continue
        of = f"{explain.number(known.bad)} of {explain.number(known.requests)}"
        rest = _allowed(known, point, drawn, verdict) if name == "canary" else _interval(known, drawn)
        meaning = f"{of} {what}; {rest}"
        found.append(Number(name=name, value=explain.percent(known.observed), meaning=meaning))
    if verdict.e is not None:
        bar = explain.odds(verdict.e_threshold) if verdict.e_threshold is not None else "-"
        meaning = f"all tests together; from {bar} on it is taken back"
        found.append(Number(name="evidence", value=explain.odds(verdict.e), meaning=meaning))
    exposed = sum(observation.canary.arrived for observation in seen)
    failed = sum(observation.canary.errors for observation in seen)
    left = sum(observation.canary.abandoned for observation in seen)
    span = f"until {until}" if until else "in all"
    meaning = f"requests went to the canary {span}, {explain.number(failed)} of them failed"
    if left:
        meaning += f", clients gave up on {explain.number(left)}"
    found.append(Number(name="exposed", value=explain.number(exposed), meaning=meaning))
    return tuple(found)


def notes(verdict: Verdict, decided: Verdict | None, cause: Cause | None) -> Iterator[str]:
    if cause is not None and cause.trigger == "verdict" and verdict.kind is not VerdictKind.ROLLBACK:
        yield (
            f"it was taken back because {cause.reason}; judged again with the present policy the record "
            f"says {verdict.kind.value}"
        )
    elif decided is not None and decided.at == verdict.at and decided.kind is not verdict.kind:
        yield (
            f"{decided.kind.value} was said then; judged again the record says {verdict.kind.value}: the "
            "policy has changed, or older observations are not kept any more"
        )


def end(verdict: Verdict, cause: Cause | None) -> str:
    """What ended the counting of a release that was taken back; empty where nothing came after it."""
    if verdict.kind is VerdictKind.ROLLBACK:
        return "the verdict"
    return "the last observation" if cause is not None else ""


def uncounted(until: str) -> Iterator[str]:
    if until:
        yield (
            f"requests that came after {until}, until the router sent the canary nothing, are not counted in "
            "what went to it"
        )


def absences(observations: Sequence[Observation]) -> Iterator[str]:
    """For how long there was nobody of a variant, so that nobody takes the router's answers for its own."""
    stable = [observation.stable for observation in observations if observation.stable is not None]
    for name, arms in (
        ("the canary", [observation.canary for observation in observations]),
        ("stable", stable),
    ):
        seconds = sum(arm.unserved for arm in arms)
        if seconds >= 1:
            length = spoken(timedelta(seconds=seconds))
            yield f"no instance of {name} was ready for {length}; what the router answered is not counted"

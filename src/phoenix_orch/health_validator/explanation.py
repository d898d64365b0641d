"""Why a release stands where it stands: one sentence, four numbers, and every metric. Pure.

The release is judged again from what was recorded of it, which gives the verdict after every
observation and so the picture as well. What was decided then is kept beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.config import BAKE
from phoenix_orch.health_validator.missing import missing
from phoenix_orch.health_validator.observation import (
    Bound,
    Category,
    MetricEvidence,
    Observation,
    Slower,
    Tier,
    Verdict,
    VerdictKind,
)
from phoenix_orch.health_validator.picture import (
    DRAWN,
    LATENCY,
    SLOWER,
    Known,
    Picture,
    Point,
    beside_stable,
    evidence_of,
    picture,
)
from phoenix_orch.health_validator.recording import Header, Recording
from phoenix_orch.health_validator.rules import ABANDONED
from phoenix_orch.health_validator.whatif import Judged, judged
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec import Model, RolloutSpec, Step
from phoenix_orch.rollout.status import Cause

ALONE = "gets no requests to compare with at 100 % traffic"
"""Of stable."""

STRONGEST = 1_000_000
"""Rarer than one in so many is not told."""


class Metric(Model):
    """One metric of the verdict. Shares are 0..1, latency in seconds, memory in bytes."""

    metric: str
    title: str
    observed: float | None
    bound: Bound | None = None
    """`observed` is only a bound of the value."""
    limit: float
    n: int
    """Samples of the canary."""
    bad: int
    lower: float | None
    upper: float | None
    """Interval of the canary's share of bad samples."""
    share_limit: float | None
    stable_observed: float | None
    stable_bound: Bound | None = None
    stable_n: int
    stable_bad: int
    stable_lower: float | None
    stable_upper: float | None
    e: float | None
    """The stronger of the next two."""
    e_limit: float | None
    e_stable: float | None
    e_healthy: float | None
    blamed: tuple[str, ...] = ()
    """Against what it is blamed: limit, stable."""
    slower: Slower | None = None
    """All latency against stable's, where this metric stands for it."""
    blame: float
    """Part of the whole evidence that this metric brought, 0..1."""
    blame_stable: float = 0.0
    """Of that, what the comparison with stable brought."""
    dispersion: float | None
    width: float | None = None
    """The dispersion that the intervals are made with."""
    tolerance: float | None
    tier: Tier | None
    breached: bool
    window: Duration


class Number(Model):
    """One of the four numbers, ready to print."""

    name: str
    value: str
    meaning: str


class Explanation(Model):
    """All of it, for people and programs."""

    rollout: str
    release: int
    revision: str
    version: str
    gate: str
    outcome: str
    """How the release ended; empty while it is on its way."""
    kind: VerdictKind | None
    """None: nothing was judged yet."""
    category: Category | None
    tier: Tier | None = None
    at: datetime | None
    after: Duration | None = None
    """From the first observation to the verdict; None: no observation is kept."""
    phase: str = ""
    weight: int = 0
    sentence: str
    numbers: tuple[Number, ...] = ()
    blame: tuple[str, ...]
    reason: str
    """In the judge's own words."""
    e: float | None
    e_threshold: float | None
    metrics: tuple[Metric, ...]
    missing: tuple[str, ...] = ()
    """What is still needed before the step can be left."""
    counterfactual: str
    """What a one-minute point rule would have said."""
    notes: tuple[str, ...] = ()
    cause: Cause | None = None
    """What took the release back, if something did."""
    picture: Picture | None = None


def explained(
    record: Recording,
    spec: RolloutSpec,
    *,
    decided: Verdict | None = None,
    cause: Cause | None = None,
    metric: str | None = None,
    standing: str = "",
) -> Explanation:
    """The explanation of a recorded release.

    `standing`: what keeps a release on its way from walking on, such as `Paused`; `decided`: the verdict
    that was published last; `cause`: what took it back; `metric`: the one to draw, instead of the one that
    is blamed most. Raises Invalid for a metric that cannot be drawn.
    """
    if metric is not None and metric not in DRAWN:
        raise Invalid(f"{metric!r} cannot be drawn", remedy=f"one of {', '.join(DRAWN)}")
    found = judged(record, spec)
    index = _deciding(found.verdicts)
    verdict, observation = found.verdicts[index], found.observations[index]
    place = found.config.step(observation.step)
    verdict = _as_decided(verdict, decided)
    verdicts = (*found.verdicts[:index], verdict, *found.verdicts[index + 1 :])
    drawn = _deciding_picture(found, verdicts, verdict)
    after = timedelta(seconds=round((observation.t1 - found.observations[0].t0).total_seconds(), 1))
    metrics = tuple(_metrics(verdict.evidence))
    told = _unshown(verdict) or _told(drawn.points[index], drawn, verdict)
    ended = cause is not None or bool(record.header.outcome)
    lacks = () if ended else missing(found.config, place, verdict)
    until = _until(verdict, cause)
    numbers = _numbers(verdict, drawn.points[index], drawn, found.observations[: index + 1], until)
    return Explanation(
        rollout=record.header.rollout,
        release=record.header.release,
        revision=observation.revision,
        version=record.header.version,
        gate=found.config.gate,
        outcome=record.header.outcome,
        kind=verdict.kind,
        category=verdict.category,
        tier=verdict.tier,
        at=verdict.at,
        after=after,
        phase=place.phase,
        weight=place.weight,
        sentence=_sentence(
            verdict,
            _opening(record.header, verdict, cause, after, place=place, standing=standing),
            told,
            lacks=lacks,
            ended=ended,
        ),
        numbers=numbers,
        blame=verdict.blame,
        reason=verdict.reason,
        e=verdict.e,
        e_threshold=verdict.e_threshold,
        metrics=metrics,
        missing=lacks,
        counterfactual=verdict.counterfactual.sentence if verdict.counterfactual is not None else "",
        notes=(
            *_notes(verdict, decided, cause),
            *_absences(found.observations[: index + 1]),
            *_uncounted(until),
        ),
        cause=cause,
        picture=picture(found.config, found.observations, verdicts, metric) if metric is not None else drawn,
    )


def unrecorded(header: Header, gate: str, verdict: Verdict | None, cause: Cause | None) -> Explanation:
    """The explanation of a release of which no observation is kept: what was said of it then."""
    word = verdict.reason if verdict is not None else "nothing was judged yet"
    told = f"rolled back by {cause.trigger}: {cause.reason}" if cause is not None else word
    evidence = verdict.evidence if verdict is not None else cause.evidence if cause is not None else ()
    counterfactual = verdict.counterfactual if verdict is not None else None
    return Explanation(
        rollout=header.rollout,
        release=header.release,
        revision=header.revision,
        version=header.version,
        gate=gate,
        outcome=header.outcome,
        kind=verdict.kind if verdict is not None else VerdictKind.ROLLBACK if cause is not None else None,
        category=verdict.category if verdict is not None else None,
        tier=verdict.tier if verdict is not None else None,
        at=verdict.at if verdict is not None else cause.at if cause is not None else None,
        weight=cause.weight if cause is not None else 0,
        sentence=f"{told[:1].upper()}{told[1:]}.",
        blame=verdict.blame if verdict is not None else (),
        reason=word,
        e=verdict.e if verdict is not None else None,
        e_threshold=verdict.e_threshold if verdict is not None else None,
        metrics=tuple(_metrics(evidence)),
        counterfactual=counterfactual.sentence if counterfactual is not None else "",
        cause=cause,
    )


def _deciding(verdicts: Sequence[Verdict]) -> int:
    """The first rollback; without one the last verdict."""
    for index, verdict in enumerate(verdicts):
        if verdict.kind is VerdictKind.ROLLBACK:
            return index
    return len(verdicts) - 1


def _as_decided(verdict: Verdict, decided: Verdict | None) -> Verdict:
    """What was published then, where the record says the same: its numbers are those of the history.

    A rollback that stands is published anew after every observation.
    """
    if decided is None or decided.kind is not verdict.kind or decided.step != verdict.step:
        return verdict
    if decided.kind is not VerdictKind.ROLLBACK and decided.at != verdict.at:
        return verdict
    return decided.model_copy(update={"at": verdict.at})


def _drawn(verdict: Verdict, found: Judged) -> str:
    """The metric that brought most of the evidence among those that can be drawn."""
    if verdict.category is Category.NO_ANSWERS:
        return ABANDONED
    options = [item for item in verdict.evidence if item.metric in DRAWN]
    blamed = [name for name in verdict.blame if name in DRAWN]
    if not options:
        return DRAWN[0]
    if blamed and found.config.gate == "literal":
        return blamed[0]
    strongest = max(options, key=lambda item: item.share)
    return blamed[0] if strongest.share == 0 and blamed else strongest.metric


def _deciding_picture(found: Judged, verdicts: Sequence[Verdict], verdict: Verdict) -> Picture:
    """Of what brought most of the evidence; all latency against stable's where that is it."""
    metric = _drawn(verdict, found)
    item = evidence_of(verdict, metric)
    if item is not None and verdict.convicts and item.share_stable > item.share - item.share_stable:
        compared = beside_stable(found.config, found.observations, verdicts, item)
        if compared is not None:
            return compared
    return picture(found.config, found.observations, verdicts, metric)


def _metrics(evidence: Sequence[MetricEvidence]) -> Iterator[Metric]:
    for item in sorted(evidence, key=lambda item: (-item.share, not item.breached)):
        known = [e for e in (item.e_limit, item.e_stable) if e is not None]
        yield Metric(
            metric=item.metric,
            title=explain.title(item.metric),
            observed=item.observed,
            bound=item.bound,
            limit=item.limit,
            n=item.samples,
            bad=item.bad,
            lower=item.lower,
            upper=item.upper,
            share_limit=item.share_limit,
            stable_observed=item.stable,
            stable_bound=item.stable_bound,
            stable_n=item.stable_samples,
            stable_bad=item.stable_bad,
            stable_lower=item.stable_lower,
            stable_upper=item.stable_upper,
            e=max(known) if known else None,
            e_limit=item.e_limit,
            e_stable=item.e_stable,
            e_healthy=item.e_healthy,
            blamed=item.blamed,
            slower=item.slower,
            blame=item.share,
            blame_stable=item.share_stable,
            dispersion=item.dispersion,
            width=item.width,
            tolerance=item.tolerance,
            tier=item.tier,
            breached=item.breached,
            window=item.window,
        )


# -- words ---------------------------------------------------------------------------------------------


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


def _opening(
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


def _sentence(verdict: Verdict, opening: str, told: str, *, lacks: tuple[str, ...], ended: bool) -> str:
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


def _unshown(verdict: Verdict) -> str:
    """The judge's words for a latency worse than stable's of which the step has no numbers; else empty."""
    if verdict.kind is not VerdictKind.ROLLBACK or not verdict.convicts or not verdict.blame:
        return ""
    worst = verdict.blame[0]
    item = evidence_of(verdict, worst)
    apart = item is None or (item.slower is None and item.share_stable > item.share - item.share_stable)
    return verdict.reason.partition(". If the version")[0] if worst in LATENCY and apart else ""


def _told(point: Point, drawn: Picture, verdict: Verdict) -> str:
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


def _numbers(
    verdict: Verdict, point: Point, drawn: Picture, seen: Sequence[Observation], until: str
) -> tuple[Number, ...]:
    """Canary, stable, evidence, exposed requests. `until`: see `_until`."""
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


def _notes(verdict: Verdict, decided: Verdict | None, cause: Cause | None) -> Iterator[str]:
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


def _until(verdict: Verdict, cause: Cause | None) -> str:
    """What ended the counting of a release that was taken back; empty where nothing came after it."""
    if verdict.kind is VerdictKind.ROLLBACK:
        return "the verdict"
    return "the last observation" if cause is not None else ""


def _uncounted(until: str) -> Iterator[str]:
    if until:
        yield (
            f"requests that came after {until}, until the router sent the canary nothing, are not counted in "
            "what went to it"
        )


def _absences(observations: Sequence[Observation]) -> Iterator[str]:
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

"""Why a release stands where it stands: one sentence, four numbers, and every metric. Pure.

The release is judged again from what was recorded of it, which gives the verdict after every
observation and so the picture as well. What was decided then is kept beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from phoenix_orch.health_validator import explain, telling
from phoenix_orch.health_validator.missing import missing
from phoenix_orch.health_validator.observation import (
    Bound,
    Category,
    MetricEvidence,
    Slower,
    Tier,
    Verdict,
    VerdictKind,
)
from phoenix_orch.health_validator.picture import (
    DRAWN,
    Picture,
    beside_stable,
    evidence_of,
    picture,
)
from phoenix_orch.health_validator.recording import Header, Recording
from phoenix_orch.health_validator.rules import ABANDONED
from phoenix_orch.health_validator.telling import Number
from phoenix_orch.health_validator.whatif import Judged, judged
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec import Model, RolloutSpec
from phoenix_orch.rollout.status import Cause


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
    told = telling.unshown(verdict) or telling.both(drawn.points[index], drawn, verdict)
    ended = cause is not None or bool(record.header.outcome)
    lacks = () if ended else missing(found.config, place, verdict)
    until = telling.end(verdict, cause)
    numbers = telling.numbers(verdict, drawn.points[index], drawn, found.observations[: index + 1], until)
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
        sentence=telling.sentence(
            verdict,
            telling.beginning(record.header, verdict, cause, after, place=place, standing=standing),
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
            *telling.notes(verdict, decided, cause),
            *telling.absences(found.observations[: index + 1]),
            *telling.uncounted(until),
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

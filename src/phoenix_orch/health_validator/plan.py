"""How long each step needs to prove its limits, and whether stable itself keeps them. Pure.

Both questions are asked of the same intervals that the judge uses. A limit is not attainable when
stable's own past proves that it is broken: the whole interval lies beyond it. One that is only not
proven to be kept, because there were few requests, is no reason to refuse a release: no evidence is
no evidence against it either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from enum import StrEnum

from pydantic import Field

from phoenix_orch.health_validator import explain, histogram
from phoenix_orch.health_validator.config import JudgeConfig
from phoenix_orch.health_validator.foreseen import End, foreseen
from phoenix_orch.health_validator.gate import FEWEST
from phoenix_orch.health_validator.history import learn
from phoenix_orch.health_validator.measures import Measure
from phoenix_orch.health_validator.observation import Arm, Observation
from phoenix_orch.health_validator.picture import LIMITED, cut_of, share_limit
from phoenix_orch.health_validator.sequential import interval
from phoenix_orch.health_validator.tally import COUNTED
from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec import Model, RolloutSpec, Statistical, Step

LONGEST = timedelta(days=365)
"""Longer than this is never."""


class Past(Model):
    """What is known of stable, or supposed: enough to say how often it would break a limit."""

    seconds: float = 0.0
    requests: int = 0
    errors: int = 0
    buckets: tuple[tuple[float, int], ...] = Field(default=(), exclude=True)
    dispersion: float | None = None
    """Of errors; None: not known."""
    slow_dispersion: float | None = None
    """Of slow requests, that of the worst latency edge: a plan had better be too long than too short."""

    @property
    def rate(self) -> float | None:
        """Requests per second."""
        return self.requests / self.seconds if self.seconds > 0 else None


class Fit(StrEnum):
    """What stable's past says about a limit."""

    KEPT = "kept"  # proven to be kept
    LIKELY = "likely"  # observed within the limit, not proven
    DOUBTFUL = "doubtful"  # observed beyond the limit, not proven
    BROKEN = "broken"  # proven to be broken: not attainable
    UNKNOWN = "unknown"  # no requests


class Prospect(Model):
    """One limit of one step."""

    phase: str
    step: int
    weight: int
    duration: Duration
    metric: str
    limit: float
    """The error rate's limit, or the latency's in seconds."""
    share_limit: float
    """Share of bad requests that it allows."""
    canary_rate: float | None
    """Requests per second that the canary will get; None: traffic is not known."""
    clean: int | None
    """Requests that prove it if none is bad."""
    needed: int | None
    """Requests that prove it if the canary is as good as stable; None: never."""
    proven_after: Duration | None
    """How long `needed` takes; None: not known, or never."""
    likely_after: Duration | None
    """How long it takes to exclude `likelyFactor` times the limit, which is enough to go on."""
    longest: Duration
    """The step's duration with all its extensions."""
    otherwise: End | None = None
    """What becomes of the step where its limits cannot be known well enough in that time; None: they can, or
    the traffic is not known."""
    otherwise_after: Duration | None = None
    """After how much time of the step."""
    fit: Fit
    observed: float | None
    """Stable's own share."""
    lower: float | None
    upper: float | None
    n: int
    width: float
    """The dispersion that intervals are made with: what was measured, 1 where nothing was."""


class Plan(Model):
    """All limits of a walk."""

    rate: float | None
    """Requests per second of stable and canary together."""
    dispersion: float
    """Of errors, as the judge will take it."""
    dispersion_known: bool
    past: Past
    prospects: tuple[Prospect, ...]

    @property
    def broken(self) -> tuple[Prospect, ...]:
        return tuple(item for item in self.prospects if item.fit is Fit.BROKEN)


def stable_past(observations: Iterable[Observation], revision: str, parameters: Statistical) -> Past:
    """What `revision` did as stable, in the bake after its own release, and between releases."""
    kept = list(observations)
    arms: list[tuple[Arm, float]] = []
    for observation in kept:
        arm = observation.stable if observation.stable is not None else observation.canary
        if arm.revision == revision and arm.quality in COUNTED:
            arms.append((arm, observation.seconds))
    together: histogram.Buckets = ()
    for arm, _ in arms:
        together = histogram.merged(together, arm.buckets)
    history = learn(kept, parameters, stable=revision)
    return Past(
        seconds=sum(seconds for _, seconds in arms),
        requests=sum(arm.requests for arm, _ in arms),
        errors=sum(arm.errors for arm, _ in arms),
        buckets=together,
        dispersion=history.dispersion,
        slow_dispersion=max(history.spread, default=None),
    )


def plan(spec: RolloutSpec, known: Past, *, rate: float | None = None) -> Plan:
    """The prospects of every limit. `rate`: requests per second; left out, those of the past."""
    parameters = spec.policy.statistical
    rate = rate if rate is not None else known.rate
    return Plan(
        rate=rate,
        dispersion=known.dispersion or parameters.dispersion_unknown,
        dispersion_known=known.dispersion is not None,
        past=known,
        prospects=tuple(
            prospect
            for step in spec.steps()
            for prospect in _with_end(spec, step, rate, list(_prospects(step, known, rate, parameters)))
        ),
    )


def _with_end(spec: RolloutSpec, step: Step, rate: float | None, found: list[Prospect]) -> list[Prospect]:
    """What becomes of a step of which some limit cannot be known well enough: the same for all of them."""
    short = [item for item in found if item.likely_after is None or item.likely_after > item.longest]
    if not rate or not short:
        return found
    rules = JudgeConfig.of(spec).rules(step.index)
    requests, seconds = (
        rate * step.weight / 100 * step.duration.total_seconds(),
        step.duration.total_seconds(),
    )
    counts = [_counted(item, requests) for item in found]
    enough = requests * (spec.policy.statistical.hold) >= max(FEWEST, spec.policy.min_requests)
    calm = enough and not any(item.fit in (Fit.DOUBTFUL, Fit.BROKEN) for item in found)
    policy = spec.policy.on_no_decision
    coming = foreseen(rules, policy, requests=requests, seconds=seconds, found=counts, calm=calm)
    told = {"otherwise": coming.end, "otherwise_after": coming.after}
    return [item.model_copy(update=told) if item in short else item for item in found]


def _counted(item: Prospect, requests: float) -> Measure:
    """Counts of a canary that is as good as stable."""
    bad = (item.observed or 0.0) * requests
    return Measure(
        item.metric,
        item.metric,
        bad=bad,
        maybe=bad,
        total=requests,
        limit=item.share_limit,
        stable_bad=0.0,
        stable_total=0.0,
        dispersion=item.width,
        width=item.width,
    )


def unattainable(prospect: Prospect) -> str:
    """Why a release has no chance, in a sentence."""
    slower = f"is slower than {explain.seconds(prospect.limit)} in"
    what = "fails" if prospect.metric == "errorRate" else slower
    percent = explain.percent
    return (
        f"limit not attainable: stable itself {what} {percent(prospect.observed or 0)} of its requests "
        f"(interval {explain.interval(prospect.lower or 0, prospect.upper or 1)}, "
        f"{explain.number(prospect.n)} requests), "
        f"phase {prospect.phase} allows {percent(prospect.share_limit)}"
    )


def _prospects(step: Step, known: Past, rate: float | None, parameters: Statistical) -> Iterator[Prospect]:
    canary = rate * step.weight / 100 if rate is not None else None
    for metric in LIMITED:
        share = share_limit(step.limits, metric)
        if share is None:
            continue
        bad, total = _counts(known, step, metric)
        dispersion, alpha = _width(known, metric), parameters.alpha_pass
        careful = max(dispersion, _supposed(known, metric, parameters))
        lower, upper = interval.bounds(bad, total, limit=share, alpha=alpha, dispersion=careful)
        clean = interval.needed(0, share, limit=share, alpha=alpha, dispersion=dispersion)
        usual = bad / total if total else 0.0
        needed = _needed(usual, share, share, alpha, dispersion)
        likely = _needed(usual, share * parameters.likely_factor, share, alpha, dispersion)
        cut = cut_of(step.limits, metric)
        yield Prospect(
            phase=step.phase,
            step=step.index,
            weight=step.weight,
            duration=step.duration,
            metric=metric,
            limit=cut.total_seconds() if cut is not None else share,
            share_limit=share,
            canary_rate=canary,
            clean=clean,
            needed=needed,
            proven_after=_time(needed, canary),
            likely_after=_time(likely, canary),
            longest=step.duration * parameters.extension,
            fit=_fit(bad, total, share, lower, upper),
            observed=bad / total if total else None,
            lower=lower if total else None,
            upper=upper if total else None,
            n=total,
            width=dispersion,
        )


def _fit(bad: int, total: int, limit: float, lower: float, upper: float) -> Fit:
    if total == 0:
        return Fit.UNKNOWN
    if lower > limit:
        return Fit.BROKEN
    if upper <= limit:
        return Fit.KEPT
    return Fit.LIKELY if bad <= limit * total else Fit.DOUBTFUL


def _counts(known: Past, step: Step, metric: str) -> tuple[int, int]:
    if metric == "errorRate":
        return known.errors, known.requests
    cut = cut_of(step.limits, metric)
    slow = histogram.certainly_above(known.buckets, cut.total_seconds()) if cut is not None else 0
    return slow, histogram.total(known.buckets)


def _supposed(known: Past, metric: str, parameters: Statistical) -> float:
    """For what may refuse a release: failures of an unknown past may be one cluster."""
    found = known.dispersion if metric == "errorRate" else known.slow_dispersion
    return found if found is not None else parameters.dispersion_unknown


def _width(known: Past, metric: str) -> float:
    """As the judge makes its intervals."""
    found = known.dispersion if metric == "errorRate" else known.slow_dispersion
    return found if found is not None else 1.0


def _needed(usual: float, target: float, limit: float, alpha: float, dispersion: float) -> int | None:
    """Requests until the upper bound comes down to `target`, when a share of `usual` is bad."""

    def above(total: int) -> bool:
        found = interval.upper(usual * total, total, limit=limit, alpha=alpha, dispersion=dispersion)
        return found > target

    most = 10**12
    if usual >= target or above(most):
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if above(middle) else (low, middle)
    return high


def _time(needed: int | None, rate: float | None) -> timedelta | None:
    if needed is None or not rate or needed / rate > LONGEST.total_seconds():
        return None
    return timedelta(seconds=round(needed / rate))

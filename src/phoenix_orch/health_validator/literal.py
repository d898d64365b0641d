"""The guide's point rule, made honest: an observed value beyond its limit is a rollback, but nothing
observed is never a pass (rule R1). Pure.

Continuously, over the rolling window: error rate, latency, CPU, memory, business metrics. At the end of
a step the whole step's numbers have to be within the limits too, and there have to be enough of them.
Values that stand on too few requests are shown and not judged. A limit that stable breaks just as badly
in the same seconds says nothing about the version: that holds the release instead of blaming it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from phoenix_orch.health_validator import explain, histogram
from phoenix_orch.health_validator.config import JudgeConfig
from phoenix_orch.health_validator.observation import Bound, Category, MetricEvidence, Quality, VerdictKind
from phoenix_orch.health_validator.opinion import Opinion
from phoenix_orch.health_validator.tally import Counts, Slot, Tally
from phoenix_orch.rollout.spec import BusinessMetric, Step

ROUTED = 20
"""So many canary requests have to be expected before their absence, or their share, says something."""
FAR = 3
"""Clients may give up on a canary this many times as often as on stable."""
SOME = 0.1
"""A share of requests given up on below this is never too high."""
MUCH_WORSE = 2
"""A canary that is this many times worse than a sick stable is to blame all the same."""


def judge(config: JudgeConfig, step: Step, tally: Tally) -> Opinion:
    """Apply the rule to what is known now. The order matters: bad news first, doubts before good news."""
    scene = _Scene(config, step, tally)
    recent = tally.recent()
    now = scene.evidence(recent)
    if any(item.breached for item in now):
        return scene.environment(recent, now) or scene.breach(recent, now)
    if doubt := scene.doubt(recent):
        return Opinion(VerdictKind.HOLD, doubt, now, category=scene.kind_of_doubt())
    if tally.weight != step.weight:
        return Opinion(VerdictKind.CONTINUE, scene.waiting(), now)
    if tally.observed_for < step.duration:
        return Opinion(VerdictKind.CONTINUE, scene.progress(), now)
    whole = scene.evidence(tally.total)
    if any(item.breached for item in whole):
        return scene.environment(tally.total, whole) or scene.breach(tally.total, whole)
    if missing := scene.missing(whole):
        over = f"{explain.length(step.duration)} are over, but {missing}"
        return Opinion(VerdictKind.EXTEND, over, whole, category=Category.SAMPLE)
    return Opinion(VerdictKind.ADVANCE, scene.passed(), whole)


class _Scene:
    """One call of `judge`: the inputs, and what is said about them."""

    def __init__(self, config: JudgeConfig, step: Step, tally: Tally) -> None:
        self.config = config
        self.step = step
        self.tally = tally
        self.who = "the new revision" if config.is_bake(step) else "canary"

    # -- metrics -------------------------------------------------------------------------------

    def evidence(self, slot: Slot) -> tuple[MetricEvidence, ...]:
        """Every limited metric over the time of `slot`."""
        return tuple(self._metrics(slot))

    def _metrics(self, slot: Slot) -> Iterator[MetricEvidence]:
        limits, canary, stable = self.step.limits, slot.canary, slot.stable
        time = timedelta(milliseconds=slot.end - slot.start)
        enough = canary.requests >= self.config.min_requests
        if limits.error_rate is not None:
            observed = _ratio(canary.errors, canary.requests)
            yield MetricEvidence(
                metric="errorRate",
                observed=observed,
                limit=limits.error_rate,
                stable=_ratio(stable.errors, stable.requests),
                samples=canary.requests,
                breached=enough and observed is not None and observed > limits.error_rate,
                window=time,
            )
        if (canary.abandoned or stable.abandoned) and stable.arrived >= self.config.min_requests:
            yield self._given_up(slot)
        if limits.latency_p95 is not None:
            yield self._latency("latencyP95", limits.latency_p95, 0.95, canary.slow95, slot)
        if limits.latency_p99 is not None:
            yield self._latency("latencyP99", limits.latency_p99, 0.99, canary.slow99, slot)
        if limits.cpu is not None:
            covered = slot.busy_ms * 2 >= min(self.config.window, self.step.duration) / _MS and slot.busy_ms
            used = slot.busy / 1_000_000 / slot.busy_ms if covered else None
            yield MetricEvidence(
                metric="cpu",
                observed=used,
                limit=limits.cpu,
                breached=used is not None and used > limits.cpu,
                window=time,
            )
        if limits.memory is not None:
            yield MetricEvidence(
                metric="memory",
                observed=slot.memory,
                limit=limits.memory,
                breached=slot.memory is not None and slot.memory > limits.memory,
                window=time,
            )
        for place, metric in enumerate(self.config.business):
            yield from self._business(place, metric, slot)

    def _given_up(self, slot: Slot) -> MetricEvidence:
        """Judged beside stable alone: how soon clients give up is theirs to say."""
        observed = _ratio(slot.canary.abandoned, slot.canary.arrived) or 0.0
        stable = slot.stable.abandoned / slot.stable.arrived
        limit = min(1.0, max(SOME, FAR * stable))
        return MetricEvidence(
            metric="abandonmentRate",
            observed=observed,
            limit=limit,
            stable=stable,
            samples=slot.canary.arrived,
            breached=slot.canary.arrived >= self.config.min_requests and observed > limit,
            window=timedelta(milliseconds=slot.end - slot.start),
            bad=slot.canary.abandoned,
        )

    def _latency(self, metric: str, limit: timedelta, share: float, slow: int, slot: Slot) -> MetricEvidence:
        allowed = {0.95: 20, 0.99: 100}[share]  # one request in so many
        timed = slot.canary.timed
        canary, stable = self.tally.buckets(slot.canary), self.tally.buckets(slot.stable)
        return MetricEvidence(
            metric=metric,
            observed=histogram.quantile(canary, share),
            bound=Bound.AT_LEAST if histogram.beyond(canary, share) else None,
            limit=limit.total_seconds(),
            stable=histogram.quantile(stable, share),
            stable_bound=Bound.AT_LEAST if histogram.beyond(stable, share) else None,
            samples=timed,
            breached=timed >= self.config.min_requests and slow * allowed > timed,
            window=timedelta(milliseconds=slot.end - slot.start),
        )

    def _business(self, place: int, metric: BusinessMetric, slot: Slot) -> Iterator[MetricEvidence]:
        count, requests = _pair(slot.canary, place)
        observed, stable = _ratio(count, requests), _ratio(*_pair(slot.stable, place))
        enough = requests >= self.config.min_requests and observed is not None
        for limit, at_least in ((metric.min_per_request, True), (metric.max_per_request, False)):
            if limit is None:
                continue
            beyond = observed is not None and (observed < limit if at_least else observed > limit)
            yield MetricEvidence(
                metric=f"business/{metric.name}",
                observed=observed,
                limit=limit,
                stable=stable,
                samples=requests,
                breached=enough and beyond,
                window=timedelta(milliseconds=slot.end - slot.start),
                at_least=at_least,
            )

    # -- bad news ------------------------------------------------------------------------------

    def environment(self, slot: Slot, evidence: tuple[MetricEvidence, ...]) -> Opinion | None:
        """A hold, when stable is beyond every limit that the canary is beyond, and about as far.

        Then it is the machine or a dependency that is sick, and nothing can be said about the version:
        neither a pass nor its fault.
        """
        breached = [item for item in evidence if item.breached]
        if slot.stable.requests < self.config.min_requests or not all(map(_shared, breached)):
            return None
        item = breached[0]
        reason = (
            f"environment: {explain.title(item.metric)} of stable is beyond the limit as well "
            f"({explain.shown(item.metric, item.stable)}; {self.who} "
            f"{explain.shown(item.metric, item.observed)}, limit {explain.shown(item.metric, item.limit)})"
        )
        return Opinion(VerdictKind.HOLD, reason, evidence, category=Category.ENVIRONMENT)

    def breach(self, slot: Slot, evidence: tuple[MetricEvidence, ...]) -> Opinion:
        """A rollback, worst metric first."""
        worst = sorted((item for item in evidence if item.breached), key=_excess, reverse=True)
        blame = tuple(dict.fromkeys(item.metric for item in worst))
        reason = f"{self._fault(worst[0], slot)}, {self._where(slot)}{_beside(worst[0])}"
        if len(blame) > 1:
            reason += f"; also beyond its limit: {', '.join(explain.title(name) for name in blame[1:])}"
        return Opinion(VerdictKind.ROLLBACK, reason, evidence, blame, category=Category.GATE)

    def _fault(self, item: MetricEvidence, slot: Slot) -> str:
        value, limit = explain.shown(item.metric, item.observed), explain.shown(item.metric, item.limit)
        of = explain.number(item.samples)
        match item.metric:
            case "errorRate":
                errors = explain.number(slot.canary.errors)
                return f"{self.who} answered {errors} of {of} requests with 5xx = {value}, limit {limit}"
            case "abandonmentRate":
                left = explain.number(item.bad)
                return (
                    f"clients gave up on {left} of {of} requests to {self.who} before it answered = {value}, "
                    f"at most {limit} beside stable"
                )
            case "latencyP95" | "latencyP99":
                slow = slot.canary.slow95 if item.metric == "latencyP95" else slot.canary.slow99
                share = explain.percent(slow / item.samples)
                return (
                    f"{explain.number(slow)} of {of} requests to {self.who} took longer than {limit} = "
                    f"{share}; {item.metric.removeprefix('latency').lower()} is about {value}, limit {limit}"
                )
            case "cpu":
                return f"{self.who} used {value} of the machine's cores in one process, limit {limit}"
            case "memory":
                return f"{self.who} grew to {value} in one process, limit {limit}"
            case _:
                what = item.metric.removeprefix("business/")
                bound = "at least" if item.at_least else "at most"
                return f"{self.who} had {value} {what} per request in {of} requests, {bound} {limit} wanted"

    def _where(self, slot: Slot) -> str:
        lasted = explain.length(timedelta(milliseconds=slot.end - slot.start))
        return f"in the last {lasted} at {self.step.weight} % traffic"

    # -- doubts --------------------------------------------------------------------------------

    def doubt(self, recent: Slot) -> str:
        """Why nothing can be said just now; empty when something can."""
        tally = self.tally
        note = f" ({tally.note})" if tally.note else ""
        if tally.quality is Quality.GAP:
            return f"no answer from the source of evidence about {self.who}{note}"
        if tally.quality is Quality.STALE:
            return f"the counters of {self.who} stand still although requests are expected{note}"
        if tally.quality is Quality.PARTIAL:
            return f"not every process of {self.who} answered{note}"
        if self._unanswered():
            left = explain.number(tally.window[-1].canary.abandoned)
            return f"{self.who} answered none of the last {left} requests: their clients gave up on them"
        return self._misrouted(*recent.routed)

    def _unanswered(self) -> bool:
        """Of the last slot, while the last answer of the source belongs to it."""
        window = self.tally.window
        return bool(window) and window[-1].canary.abandoned > 0 and not window[-1].canary.requests

    def kind_of_doubt(self) -> Category:
        match self.tally.quality:
            case Quality.GAP | Quality.PARTIAL:
                return Category.NO_DATA
            case Quality.STALE:
                return Category.STALE
            case _:
                return Category.NO_ANSWERS if self._unanswered() else Category.ROUTING

    def _misrouted(self, canary: int, stable: int) -> str:
        weight = self.step.weight
        if weight == 100:
            lost = canary == 0 and stable >= ROUTED
            return f"routing: {self.who} gets no requests, stable got {stable} of them" if lost else ""
        everything = canary + stable
        expected = everything * weight / 100
        if expected < ROUTED:
            return ""
        if canary == 0:
            return (
                f"routing: {self.who} got none of {explain.number(everything)} requests, "
                f"about {expected:.0f} were expected at {weight} %"
            )
        share = canary / everything
        if not weight / 200 <= share <= weight / 50:
            return (
                f"routing: {self.who} got {explain.number(canary)} of {explain.number(everything)} "
                f"requests = {explain.percent(share)}, {weight} % were to be expected"
            )
        return ""

    def missing(self, whole: tuple[MetricEvidence, ...]) -> str:
        """What is still needed before the step's numbers may count as a pass; empty when nothing is."""
        need, requests = self.config.min_requests, self.tally.total.canary.requests
        if requests < need:
            short = need - requests
            left = self.tally.total.canary.abandoned
            missed = f"; clients gave up on {explain.number(left)}" if left else ""
            return f"{self.who} got {requests} of the {need} requests needed: {short} more{missed}"
        for item in whole:
            name = explain.title(item.metric)
            if item.observed is None:
                return f"nothing is known about {name}, which has a limit"
            if item.metric in _BY_REQUESTS or item.metric.startswith("business/"):
                if item.samples < need:
                    return f"{name} is known for {item.samples} of the {need} requests needed"
                if self._undecided(item):
                    limit = explain.shown(item.metric, item.limit)
                    return f"the histogram cannot tell whether {name} is within {limit}: make that an edge"
        return ""

    def _undecided(self, item: MetricEvidence) -> bool:
        total = self.tally.total.canary
        if item.metric == "latencyP95":
            return total.about95 * 20 > total.timed
        return item.metric == "latencyP99" and total.about99 * 100 > total.timed

    # -- good news -----------------------------------------------------------------------------

    def waiting(self) -> str:
        """Not a doubt: whoever steers the weight knows best what keeps it from the data plane."""
        note = f" ({self.tally.note})" if self.tally.note else ""
        return f"waiting for {self.step.weight} % on the data plane, which sends {self.tally.weight} %{note}"

    def progress(self) -> str:
        done = explain.length(self.tally.observed_for)
        if few := self._few():
            return f"{few} in {done} of {explain.length(self.step.duration)}{self._summary()}"
        return f"within limits for {done} of {explain.length(self.step.duration)}{self._summary()}"

    def _few(self) -> str:
        """A value that stands on too few requests is neither within its limit nor beyond it."""
        limits = self.step.limits
        by_requests = limits.error_rate, limits.latency_p95, limits.latency_p99
        requests, need = self.tally.total.canary.requests, self.config.min_requests
        if requests >= need or (by_requests == (None, None, None) and not self.config.business):
            return ""
        return f"too few requests to judge, {requests} of the {need} needed,"

    def passed(self) -> str:
        return f"within limits for {explain.length(self.tally.observed_for)}{self._summary()}"

    def _summary(self) -> str:
        total = self.tally.total.canary
        left = explain.number(total.abandoned) if total.abandoned else ""
        if total.requests == 0:
            answered = f" answered yet, clients gave up on {left}" if left else " yet"
            return f" at {self.step.weight} % traffic; no request to {self.who}{answered}"
        words = [f"{explain.number(total.requests)} requests to {self.who}"]
        words.append(f"{explain.percent(total.errors / total.requests)} errors")
        if left:
            words.append(f"clients gave up on {left} more")
        p95 = histogram.quantile(self.tally.buckets(total), 0.95)
        if p95 is not None:
            words.append(f"p95 about {explain.seconds(p95)}")
        return f" at {self.step.weight} % traffic: {', '.join(words)}"


_MS = timedelta(milliseconds=1)
_BY_REQUESTS = frozenset({"errorRate", "latencyP95", "latencyP99"})


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _pair(counts: Counts, place: int) -> tuple[float, int]:
    return counts.business[place] if counts.business else (0, 0)


def _excess(item: MetricEvidence) -> float:
    """How many times the limit was reached."""
    observed = item.observed or 0.0
    above, below = (item.limit, observed) if item.at_least else (observed, item.limit)
    return above / below if below > 0 else float("inf")


def _shared(item: MetricEvidence) -> bool:
    """Stable breaks the same limit, and the canary is at most `MUCH_WORSE` times as far from none."""
    if item.stable is None or item.observed is None:
        return False
    if item.at_least:
        return item.stable < item.limit and item.observed * MUCH_WORSE >= item.stable
    return item.stable > item.limit and item.observed <= item.stable * MUCH_WORSE


def _beside(item: MetricEvidence) -> str:
    return "" if item.stable is None else f"; stable {explain.shown(item.metric, item.stable)}"

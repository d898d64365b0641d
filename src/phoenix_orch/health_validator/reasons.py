"""The statistical gate in words: one sentence a person can act on. Pure."""

from __future__ import annotations

import math
from datetime import timedelta
from functools import lru_cache

from phoenix_orch.health_validator import explain, foreseen
from phoenix_orch.health_validator.books import LOW, A, Books, Ledger, N, T, X
from phoenix_orch.health_validator.findings import QUANTILE, quantile
from phoenix_orch.health_validator.measures import Component, Measure, given_up, slower_at
from phoenix_orch.health_validator.observation import Tier
from phoenix_orch.health_validator.rules import ABANDONED, QUANTILES, Rules

_TIERS = {
    Tier.PROVEN: "limits proven",
    Tier.LIKELY: "within limits",
    Tier.THIN: "within limits as far as few requests can tell",
}


class Reasons:
    """One verdict: the numbers, and what is said about them."""

    def __init__(self, rules: Rules, books: Books, ledger: Ledger, on_no_decision: str) -> None:
        self.rules = rules
        self.books = books
        self.ledger = ledger
        self.on_no_decision = on_no_decision

    # -- bad news ------------------------------------------------------------------------------

    def convicted(self, blamed: list[Component], found: list[Measure], e: float) -> str:
        """The fault that weighs most, both variants' numbers, and how strong the evidence is."""
        by_metric = {measure.metric: measure for measure in reversed(found)}
        worst = blamed[0]
        measure = by_metric.get(worst.metric)
        if worst.metric in QUANTILE and worst.versus == "stable":
            fault = self._slower()
        elif worst.metric == ABANDONED:
            fault = self._given_up()
        elif measure is not None:
            against_limit = any((part.metric, part.versus) == (worst.metric, "limit") for part in blamed)
            fault = self._fault(measure, convicted=against_limit)
        else:
            fault = self._gauge(worst.metric)
        words = (
            f"{fault}. If the version were as good as it has to be, evidence this strong "
            f"({explain.odds(e)}) would appear in fewer than 1 of {_rounded(e)} rollouts"
        )
        names = dict.fromkeys(f"{explain.title(part.metric)} against {part.versus}" for part in blamed)
        return f"{words}; blamed: {', '.join(names)}"

    def _fault(self, measure: Measure, *, convicted: bool = False) -> str:
        """`convicted`: by evidence against the limit."""
        alpha = self.rules.parameters.alpha_pass
        who, weight = self.rules.who, self.rules.step.weight
        of = explain.number(round(measure.total))
        if measure.rate:
            what = measure.metric.removeprefix("business/")
            bound = "at least" if measure.at_least else "at most"
            return (
                f"{who} had {_rate(measure.bad, measure.total)} {what} per request in {of} requests, "
                f"{bound} {measure.limit:.3g} wanted{self._beside_rate(measure)}, at {weight} % traffic"
            )
        if measure.total <= 0:
            return f"{who} was beyond the limit of {explain.title(measure.metric)} in earlier steps"
        lower, upper = measure.shown(alpha)
        share = explain.percent(measure.bad / measure.total)
        span = f"{round((1 - alpha) * 100)} % interval {explain.interval(lower, upper)}, "
        if not explain.tells(lower, upper, measure.limit, convicted=convicted):
            span = ""
        count = explain.number(round(measure.bad))
        if measure.metric in QUANTILE:
            limit = explain.shown(measure.metric, self.limit(measure))
            words = (
                f"{count} of {of} requests to {who} took longer than {limit} = {share} "
                f"({span}{explain.percent(measure.limit)} allowed)"
            )
            beside = "of stable's requests {} were that slow"
        else:
            words = (
                f"{who} failed {count} of {of} requests = {share} "
                f"({span}limit {explain.percent(measure.limit)})"
            )
            beside = "stable failed {}"
        if weight == 100:
            words += "; stable gets no requests to compare with"
        elif measure.stable_total > 0:
            stable = explain.percent(measure.stable_bad / measure.stable_total)
            words += f"; {beside.format(stable)} in the same minutes"
        return f"{words}, at {weight} % traffic"

    def _beside_rate(self, measure: Measure) -> str:
        if self.rules.step.weight == 100 or measure.stable_total <= 0:
            return ""
        return f"; stable {_rate(measure.stable_bad, measure.stable_total)}"

    def _given_up(self) -> str:
        left, alpha = given_up(self.rules, self.ledger), self.rules.parameters.alpha_pass
        who, weight = self.rules.who, self.rules.step.weight
        if not left.bad:
            return f"clients gave up on requests to {who} in earlier steps"
        lower, upper = left.shown(alpha)
        words = (
            f"clients gave up on {explain.number(round(left.bad))} of {explain.number(round(left.total))} "
            f"requests to {who} before it answered = {explain.percent(left.bad / left.total)} "
            f"({round((1 - alpha) * 100)} % interval {explain.interval(lower, upper)})"
        )
        if left.stable_total > 0:
            when = "in the same minutes" if weight < 100 else "earlier in this release"
            stable = explain.percent(left.stable_bad / left.stable_total)
            words += f"; on {stable} of stable's {when}"
        return f"{words}, at {weight} % traffic"

    def _slower(self) -> str:
        """Where the two distributions of latency differ most, weighed by the evidence."""
        words, found = (
            f"{self.rules.who} is slower than stable",
            slower_at(self.rules, self.books, self.ledger),
        )
        if found is None:
            return f"{words}, as seen in earlier steps"
        mine, theirs = found.bad / found.samples, found.stable_bad / found.stable_samples
        return (
            f"{words}: {explain.percent(mine)} of its {explain.number(found.samples)} requests took longer "
            f"than {explain.seconds(found.edge)}, of stable's requests {explain.percent(theirs)} in the same "
            f"minutes, at {self.rules.step.weight} % traffic"
        )

    def _gauge(self, metric: str) -> str:
        place = next(i for i, gauge in enumerate(self.rules.gauges) if gauge.metric == metric)
        gauge, book = self.rules.gauges[place], self.ledger.gauges[place]
        value = book.last if book.now[1] <= 0 else book.now[0] / book.now[1]
        limit = "" if gauge.limit is None else f", limit {explain.shown(metric, gauge.limit)}"
        return (
            f"{explain.title(metric)} of {self.rules.who} was too {'low' if gauge.at_least else 'high'} "
            f"in {book.bad} of {book.minutes} minutes: {explain.shown(metric, value)}{limit}"
        )

    def missed(self, measure: Measure) -> str:
        """The gate's own rollback: more than chance, though not yet evidence of the strong kind."""
        return f"{self._fault(measure)}; that is {measure.z():.1f} standard errors beyond the limit"

    # -- doubts --------------------------------------------------------------------------------

    def unanswered(self) -> str:
        """Of the open cell."""
        left = explain.number(self.books.block.canary[A])
        return f"{self.rules.who} answered none of the last {left} requests: their clients gave up on them"

    def environment(self, metric: str, found: list[Measure]) -> str:
        measure = next((item for item in found if item.metric == metric), None)
        words = f"environment: {explain.title(metric)} of stable is beyond the limit as well"
        if measure is None or measure.rate:
            return words
        recent = self.recent(metric)
        return f"{words} ({recent})" if recent else words

    def recent(self, metric: str) -> str:
        """Both variants' shares of bad requests in the step."""
        canary, stable = self.ledger.canary, self.ledger.stable
        place, total = (X, N) if metric == "errorRate" else (LOW + 2 * _place(metric), T)
        if not canary[total] or not stable[total]:
            return ""
        mine, theirs = canary[place] / canary[total], stable[place] / stable[total]
        return f"stable {explain.percent(theirs)}, {self.rules.who} {explain.percent(mine)} of this step"

    def both(self, measure: Measure) -> str:
        mine, theirs = _share(measure.bad, measure.total), _share(measure.stable_bad, measure.stable_total)
        return self.over(
            f"environment: {explain.title(measure.metric)} is beyond its limit, and as far as can be told "
            f"stable is as bad ({mine} of {self.rules.who}, {theirs} of stable)"
        )

    def close(self, measure: Measure) -> str:
        limit = (
            explain.shown(measure.metric, measure.limit) if measure.rate else explain.percent(measure.limit)
        )
        return (
            f"{explain.title(measure.metric)} is beyond its limit by no more than chance "
            f"({_share(measure.bad, measure.total)} of {explain.number(round(measure.total))} requests, "
            f"{limit} allowed)"
        )

    def needed(self, measure: Measure) -> str:
        """How many requests are missing, and how long they will take."""
        if measure.rate:
            so_far = explain.number(round(measure.total))
            return f"{explain.title(measure.metric)} is not known well enough from {so_far} requests"
        return foreseen.lacking(measure, self.rules, rate=self._rate())

    def _rate(self) -> float:
        """Requests of the canary in a second of this step."""
        seconds = self.ledger.observed_ms / 1000
        return self.ledger.requests / seconds if seconds > 0 else 0.0

    def unless(self, found: list[Measure], *, calm: bool) -> str:
        """What comes of it if nothing changes."""
        coming = foreseen.foreseen(
            self.rules,
            self.on_no_decision,
            requests=self.ledger.requests,
            seconds=self.ledger.observed_ms / 1000,
            found=found,
            calm=calm,
        )
        return f"if that stays so, {foreseen.sentence(coming, bake=self.rules.bake)}"

    def over(self, but: str) -> str:
        return f"{explain.length(self.rules.step.duration)} are over, but {but}"

    # -- good news -----------------------------------------------------------------------------

    def waiting(self) -> str:
        """Not a doubt: whoever steers the weight knows best what keeps it from the data plane."""
        note = f" ({self.books.note})" if self.books.note else ""
        weight = self.rules.step.weight
        return f"waiting for {weight} % on the data plane, which sends {self.books.weight} %{note}"

    def progress(self, e: float) -> str:
        done = _length(self.ledger.observed_ms)
        state = "no evidence of a fault" if e < self.rules.threshold / 10 else f"evidence {explain.odds(e)}"
        return f"{state} in {done} of {explain.length(self.rules.step.duration)}{self._summary()}"

    def passed(self, tier: Tier) -> str:
        return f"{_TIERS[tier]} for {_length(self.ledger.observed_ms)}{self._summary()}"

    def _summary(self) -> str:
        canary, weight, who = self.ledger.canary, self.rules.step.weight, self.rules.who
        if canary[N] == 0:
            answered = f" answered yet, clients gave up on {canary[A]:,}" if canary[A] else " yet"
            return f" at {weight} % traffic; no request to {who}{answered}"
        errors = explain.percent(canary[X] / canary[N])
        left = f", clients gave up on {canary[A]:,} more" if canary[A] else ""
        words = f" at {weight} % traffic: {canary[N]:,} requests to {who}, {errors} errors{left}"
        p95 = quantile(canary, self.books.lanes.edges, 0.95)
        if p95 is None:
            return words
        about = "at most" if p95 <= self.books.lanes.edges[0] else "about"
        return f"{words}, p95 {about} {explain.seconds(p95)}"

    def limit(self, measure: Measure) -> float:
        """As a person wrote it: seconds for latency."""
        if measure.metric in QUANTILE:
            return self.rules.latency_limits[_place(measure.metric)] or 0.0
        return measure.limit


def _place(metric: str) -> int:
    return next((place for place, (name, _) in enumerate(QUANTILES) if name == metric), 0)


def _share(bad: float, total: float) -> str:
    return explain.percent(bad / total) if total else "-"


def _rate(events: float, total: float) -> str:
    return f"{events / total:.3g}" if total else "-"


def _rounded(e: float) -> str:
    """Downwards to two digits: 1855 as 1,800."""
    if e >= 1e6:
        return f"10^{math.floor(math.log10(e))}"
    step = 10 ** max(0, math.floor(math.log10(max(e, 1.0))) - 1)
    return f"{math.floor(e / step) * step:,}"


@lru_cache(maxsize=512)
def _length(ms: int) -> str:
    return explain.length(timedelta(milliseconds=ms))

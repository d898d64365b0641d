"""The statistical gate: evidence that may be looked at after every interval without lying. Pure.

The order matters: bad news first, doubts before good news. How it decides, and why, is told in
docs/explanation; the mathematics is in `sequential`.
"""

from __future__ import annotations

from phoenix_orch.health_validator import gate, pointrule
from phoenix_orch.health_validator.books import A, Books, Ledger, N, together
from phoenix_orch.health_validator.config import JudgeConfig
from phoenix_orch.health_validator.environment import shared_fault
from phoenix_orch.health_validator.findings import findings
from phoenix_orch.health_validator.measures import Measure, blamed, components, measures
from phoenix_orch.health_validator.observation import (
    Category,
    Counterfactual,
    MetricEvidence,
    Quality,
    Tier,
    VerdictKind,
)
from phoenix_orch.health_validator.opinion import Opinion
from phoenix_orch.health_validator.reasons import Reasons
from phoenix_orch.health_validator.routing import misrouted
from phoenix_orch.health_validator.rules import QUANTILES, Rules

_CONTINUE, _OK = VerdictKind.CONTINUE, Quality.OK
"""What most looks need, looked up once."""

AFTER_STEP = 2
"""An outage that begins within so many windows of a weight's first traffic may be the release's fault."""

LASTING = 5
"""When it has lasted so many windows: what both variants share for less is the environment's, such as a
restart of both or a slow minute of a database."""


class Judgement:
    """One look at the books: the numbers, and what follows from them."""

    def __init__(self, config: JudgeConfig, rules: Rules, books: Books, ledger: Ledger) -> None:
        """`ledger`: with the open cell closed."""
        self.config = config
        self.rules = rules
        self.books = books
        self.ledger = ledger
        self.recent = books.recent if books.recent is not None else together(books.window)
        self.words = Reasons(rules, books, ledger, config.on_no_decision)
        self._measures: list[Measure] | None = None
        self.parts = components(rules, ledger)
        self.e = sum([part.worth for part in self.parts])

    @property
    def measures(self) -> list[Measure]:
        """Made when they are wanted first: most looks need none."""
        if self._measures is None:
            self._measures = measures(self.rules, self.books, self.ledger)
        return self._measures

    def evidence(self) -> tuple[MetricEvidence, ...]:
        """Metric by metric, with intervals."""
        return findings(self.rules, self.books, self.ledger, self.measures, self.parts)

    def counterfactual(self) -> Counterfactual:
        over = self.ledger.observed_ms >= self.rules.duration_ms
        requests = self.ledger.canary[N]
        return pointrule.counterfactual(self.rules, self.books, requests=requests, over=over)

    def opinion(self) -> Opinion:
        """What is thought of the release just now."""
        if self.e >= self.rules.threshold:
            return self._convicted()
        if opinion := self._doubt() or self._environment():
            return opinion
        rules, books = self.rules, self.books
        if books.weight != rules.step.weight:
            return Opinion(_CONTINUE, self.words.waiting())
        if self.ledger.observed_ms >= rules.duration_ms:
            return gate.decide(rules, self.ledger, self.measures, self.words)
        if rules.early_advance and gate.proven(rules, self.ledger, self.measures):
            return Opinion(VerdictKind.ADVANCE, self.words.passed(Tier.PROVEN), tier=Tier.PROVEN)
        return Opinion(_CONTINUE, self.words.progress(self.e))

    # -- bad news ------------------------------------------------------------------------------

    def _convicted(self) -> Opinion:
        guilty = blamed(self.parts, self.rules.threshold)
        reason = self.words.convicted(guilty, self.measures, self.e)
        names = tuple(dict.fromkeys(part.metric for part in guilty))
        kind = VerdictKind.ROLLBACK
        category = Category.EVIDENCE
        if self.config.on_relative_regression == "hold" and self._only_relative():
            kind, category, names = VerdictKind.HOLD, Category.REGRESSION, ()
            reason = f"worse than stable, within its limits: {reason}"
        return Opinion(kind, reason, blame=names, category=category)

    def _only_relative(self) -> bool:
        """Without what speaks for worse than stable there would be no conviction."""
        against_limit = sum(part.worth for part in self.parts if part.versus == "limit")
        return against_limit < self.rules.threshold

    # -- doubts --------------------------------------------------------------------------------

    def _doubt(self) -> Opinion | None:
        """Why nothing can be said just now."""
        rules, books = self.rules, self.books
        wrong, nothing = misrouted(rules, books, self.recent.routed)
        if nothing and books.silent[1] and self._silent_for(books) > rules.window_cells * rules.interval_ms:
            return Opinion(VerdictKind.ROLLBACK, wrong, category=Category.ROUTING)
        if wrong:
            return Opinion(VerdictKind.HOLD, wrong, category=Category.ROUTING)
        if books.block.canary[A] and not books.block.canary[N]:
            return Opinion(VerdictKind.HOLD, self.words.unanswered(), category=Category.NO_ANSWERS)
        if books.quality is _OK:
            return None
        who, note = rules.who, f" ({books.note})" if books.note else ""
        if books.quality is Quality.GAP:
            reason = f"no answer from the source of evidence about {who}{note}"
            return Opinion(VerdictKind.HOLD, reason, category=Category.NO_DATA)
        if books.quality is Quality.STALE:
            reason = f"the counters of {who} stand still although requests are expected{note}"
            return Opinion(VerdictKind.HOLD, reason, category=Category.STALE)
        if books.quality is Quality.PARTIAL:
            reason = f"not every process of {who} answered{note}"
            return Opinion(VerdictKind.HOLD, reason, category=Category.NO_DATA)
        return None

    @staticmethod
    def _silent_for(books: Books) -> int:
        return books.at - books.silent[1]

    def _environment(self) -> Opinion | None:
        """Stable is beyond a limit, and so is the canary: that says nothing of the version."""
        place = shared_fault(self.rules, self.ledger.sick, self.recent.canary, self.ledger.business)
        if place < 0:
            return None
        reason = self.words.environment(self._metric(place), self.measures)
        if self._began_with_the_step(place) and self._lasts(place):
            reason += "; it began with this step, so it may be the release's doing"
            return Opinion(VerdictKind.ROLLBACK, reason, category=Category.ENVIRONMENT)
        kind = VerdictKind.HOLD if self.config.on_environment == "hold" else VerdictKind.ROLLBACK
        return Opinion(kind, reason, category=Category.ENVIRONMENT)

    def _metric(self, place: int) -> str:
        if place == 0:
            return "errorRate"
        if place <= len(QUANTILES):
            return QUANTILES[place - 1][0]
        return self.rules.business[place - 1 - len(QUANTILES)].metric

    def _began_with_the_step(self, place: int) -> bool:
        """Stable was well before: so says its past, or the step before this one."""
        since, begun = self.ledger.sick[place], self.ledger.step_cell
        if self.rules.step.index == 0 and not self.books.known:
            return False
        return begun >= 0 and begun <= since <= begun + AFTER_STEP * self.rules.window_cells

    def _lasts(self, place: int) -> bool:
        """Stable has been beyond its limit for long, and that is no chance."""
        ledger, rules = self.ledger, self.rules
        lasted = ledger.cell - ledger.sick[place]
        return lasted >= LASTING * rules.window_cells and ledger.against_stable(place) >= rules.threshold

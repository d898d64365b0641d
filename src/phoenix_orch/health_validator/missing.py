"""What a step still lacks before it can be left, in requests and in time, and what comes without it. Pure."""

from __future__ import annotations

from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.config import JudgeConfig
from phoenix_orch.health_validator.foreseen import foreseen, lacking, needed, sentence
from phoenix_orch.health_validator.measures import Measure
from phoenix_orch.health_validator.observation import Category, MetricEvidence, Verdict, VerdictKind
from phoenix_orch.health_validator.picture import LIMITED
from phoenix_orch.health_validator.rules import ABANDONED
from phoenix_orch.rollout.spec import Step

_WANTING = (VerdictKind.EXTEND, VerdictKind.CONTINUE, VerdictKind.HOLD)


def missing(config: JudgeConfig, step: Step, verdict: Verdict) -> tuple[str, ...]:
    """One sentence for each limit that is not known well enough yet, and one about what comes then; none
    when nothing is missing. All by the counts of the verdict; the point rule wants `minRequests` alone.
    """
    answered, seconds = verdict.requests, verdict.observed_for.total_seconds()
    if verdict.kind not in _WANTING:
        return ()
    if not answered:
        left = next((item.bad for item in verdict.evidence if item.metric == ABANDONED), 0)
        if left:
            return (f"the canary answers nobody, clients gave up on {explain.number(left)} requests",)
        return ("there is no traffic to the canary",)
    if config.gate == "literal":
        lacks = config.min_requests - verdict.requests
        return (f"{lacks} more requests to the canary are needed to judge it",) if lacks > 0 else ()
    rules = config.rules(step.index)
    found = [_measure(item) for item in verdict.evidence if item.metric in LIMITED]
    rate = answered / seconds if seconds > 0 else 0.0
    short = [measure for measure in found if (needed(measure, rules) or 1e18) > measure.total]
    if not short:
        return ()
    told = tuple(lacking(measure, rules, rate=rate) for measure in short)
    if verdict.category not in (Category.PROGRESS, Category.SAMPLE):
        return told
    coming = foreseen(
        rules,
        config.on_no_decision,
        requests=answered,
        seconds=seconds,
        found=found,
        calm=not any(item.breached for item in verdict.evidence),
    )
    return *told, f"without them {sentence(coming, bake=rules.bake)}"


def _measure(item: MetricEvidence) -> Measure:
    """The counts of a limit that evidence was made of."""
    return Measure(
        item.metric,
        item.metric,
        bad=item.bad,
        maybe=item.bad,
        total=item.samples,
        limit=item.share_limit or 0.0,
        stable_bad=item.stable_bad,
        stable_total=item.stable_samples,
        dispersion=item.dispersion or 1.0,
        width=item.width or 1.0,
    )

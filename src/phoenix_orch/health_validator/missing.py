"""What a step still lacks before its limits are proven, in requests and in time. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.config import JudgeConfig
from phoenix_orch.health_validator.observation import Observation, Verdict
from phoenix_orch.health_validator.picture import LIMITED, share_limit, sums
from phoenix_orch.health_validator.sequential import interval
from phoenix_orch.rollout.spec import Step


def missing(
    config: JudgeConfig, step: Step, verdict: Verdict, observations: Sequence[Observation]
) -> tuple[str, ...]:
    """One sentence for each limit that is not proven yet; none when all are."""
    own = [observation for observation in observations if observation.step == step.index]
    seconds = sum(observation.seconds for observation in own)
    evidence = {item.metric: item for item in verdict.evidence}
    found: list[str] = []
    for metric in LIMITED:
        limit = share_limit(step.limits, metric)
        if limit is None:
            continue
        bad, total = sums(own, step, metric)
        item = evidence.get(metric)
        dispersion = item.dispersion if item is not None and item.dispersion is not None else 1.0
        alpha = config.statistical.alpha_pass
        need = interval.needed(bad, limit, limit=limit, alpha=alpha, dispersion=dispersion)
        if need is not None and need > total:
            lacking = _lacking(metric, limit, bad, total, need)
            found.append(
                lacking + _time_left(need - total, total, seconds, sum(o.canary.abandoned for o in own))
            )
    return tuple(found)


def _lacking(metric: str, limit: float, bad: int, total: int, need: int) -> str:
    good = "error-free requests" if metric == "errorRate" else "requests within the latency limit"
    if not bad:
        needed = f"{explain.number(need)} {good} are needed to prove {_limit(metric, limit)}"
        return f"{needed}; {explain.number(total)} so far"
    kind = "failed" if metric == "errorRate" else "were slow"
    needed = f"{explain.number(need - total)} more {good} are needed to prove {_limit(metric, limit)}"
    return f"{needed}; {explain.number(bad)} of {explain.number(total)} {kind} so far"


def _limit(metric: str, limit: float) -> str:
    if metric == "errorRate":
        return explain.percent(limit)
    return f"that at most {explain.percent(limit)} are slower"


def _time_left(lacking: int, total: int, seconds: float, left: int) -> str:
    if left and not total:
        return f"; the canary answers nobody, clients gave up on {explain.number(left)} requests"
    if total == 0 or seconds <= 0:
        return "; there is no traffic to the canary"
    rate = total / seconds
    return f"; at {rate:.3g} requests/s about {about(lacking / rate)} more"


def about(seconds: float) -> str:
    """A length as people estimate it: 17 min, 3.2 h, 40 d."""
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size * (1 if unit == "min" else 1.5):
            count = seconds / size
            return f"{count:.0f} {unit}" if count >= 10 or unit == "min" else f"{count:.2g} {unit}"
    return f"{max(1, round(seconds)):.0f} s"

"""The demo's own way to write numbers; those of evidence are written as everywhere in Phoenix. Pure."""

from __future__ import annotations

from datetime import timedelta

from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.observation import MetricEvidence


def percent(share: float | None) -> str:
    return explain.shown("errorRate", share)


def latency(seconds: float | None) -> str:
    """Whole milliseconds: a picture that changes four times a second should not flicker."""
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def clock(duration: timedelta | None) -> str:
    """Minutes and seconds: `3:05`, with hours `1:03:05`."""
    if duration is None:
        return "-"
    minutes, seconds = divmod(max(0, round(duration.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def sentence(evidence: MetricEvidence) -> str:
    """`error rate 20.9 % of 43 requests in 1m (limit: at most 0.1 %; stable 0 %)`."""
    name = evidence.metric
    samples = f" of {evidence.samples:,} requests" if evidence.samples else ""
    window = f" in {explain.length(evidence.window)}" if evidence.window else ""
    bound = "at least" if evidence.at_least else "at most"
    stable = f"; stable {explain.shown(name, evidence.stable)}" if evidence.stable is not None else ""
    return (
        f"{explain.title(name)} {explain.shown(name, evidence.observed)}{samples}{window}"
        f" (limit: {bound} {explain.shown(name, evidence.limit)}{stable})"
    )

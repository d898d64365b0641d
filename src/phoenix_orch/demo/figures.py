"""Numbers as people read them: shares in per cent, latency in milliseconds, sizes in MiB. Pure."""

from __future__ import annotations

from datetime import timedelta

from phoenix_orch.health_validator.observation import MetricEvidence

_TITLES = {
    "errorRate": "error rate",
    "latencyP95": "latency p95",
    "latencyP99": "latency p99",
    "cpu": "cpu",
    "memory": "memory",
}


def percent(share: float | None) -> str:
    """0.0012 → `0.12 %`."""
    if share is None:
        return "-"
    value = share * 100
    digits = 0 if value == 0 or value >= 9.95 else 1 if value >= 0.95 else 2
    return f"{value:.{digits}f} %"


def milliseconds(seconds: float | None) -> str:
    """0.0123 → `12 ms`."""
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def clock(duration: timedelta | None) -> str:
    """Minutes and seconds: `3:05`, with hours `1:03:05`."""
    if duration is None:
        return "-"
    minutes, seconds = divmod(max(0, round(duration.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def metric(name: str) -> str:
    return _TITLES.get(name, name.replace("business/", ""))


def amount(name: str, value: float | None) -> str:
    """A value of a metric in its unit."""
    if value is None:
        return "-"
    if name in ("errorRate", "cpu"):
        return percent(value)
    if name.startswith("latency"):
        return milliseconds(value)
    if name == "memory":
        return f"{value / 2**20:.0f} MiB"
    return f"{value:.2f} per request"


def sentence(evidence: MetricEvidence) -> str:
    """`error rate 21 % of 43 requests (limit 0.1 %, stable 0 %)`."""
    name = evidence.metric
    parts = [f"{metric(name)} {amount(name, evidence.observed)}"]
    if evidence.samples:
        parts.append(f"of {evidence.samples} requests")
    stable = f", stable {amount(name, evidence.stable)}" if evidence.stable is not None else ""
    return f"{' '.join(parts)} (limit {amount(name, evidence.limit)}{stable})"

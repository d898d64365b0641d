"""Lists as text for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from phoenix_orch.cli.output import GAVE_UP, columns, without_empty
from phoenix_orch.client.client import AppliedConfig
from phoenix_orch.health_validator import explain
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.orchestrator.views import Rates, RolloutView, ServiceView
from phoenix_orch.orchestrator.wording import (
    format_rounded,
    gist,
    left,
    mark,
    message,
    moment,
    named,
    pair,
    part,
    phase,
    running,
    seen,
    share,
    version,
    wanted,
)
from phoenix_orch.rollout.status import (
    ACTIVE,
    Event,
    Release,
    Revision,
)
from phoenix_orch.workload.workload import Exit

__all__ = [
    "events",
    "exits",
    "format_rounded",
    "gist",
    "history",
    "instances",
    "left",
    "mark",
    "message",
    "moment",
    "named",
    "pair",
    "part",
    "phase",
    "phases",
    "revisions",
    "rollouts",
    "running",
    "seen",
    "services",
    "share",
    "variants",
    "version",
    "wanted",
]

LONG = 80
"""Characters of a reason from which on a line of the history has its first clause only."""
EXITS_SHOWN = 10
"""The newest ones, of both variants."""


def rollouts(views: Sequence[RolloutView]) -> str:
    header = ("NAME", "STATE", "STABLE", "CANARY", "PHASE", "WEIGHT", "SEEN", "VERDICT", "MESSAGE")
    empty = "no rollouts; `phoenix apply -f FILE` makes them"
    return columns(header, [_rollout(view) for view in views], empty=empty, whole=False)


def _rollout(view: RolloutView) -> Sequence[str]:
    status = view.rollout.status
    return (
        view.rollout.name,
        status.state.value,
        version(view, status.stable),
        version(view, status.canary),
        phase(view),
        wanted(view),
        seen(view),
        view.verdict.kind.value if view.verdict and status.state in ACTIVE else "",
        gist(status.message),
    )


def services(views: Sequence[ServiceView]) -> str:
    header = ("NAME", "VERSION", "REVISION", "READY", "ROLLOUT", "ADDRESS")
    rows = [
        (view.name, view.version, view.revision, f"{view.ready}/{view.replicas}", view.rollout, view.route)
        for view in views
    ]
    return columns(header, rows, empty="no services; `phoenix apply -f FILE` makes them")


def configuration(found: AppliedConfig) -> str:
    """What a configuration names; the whole of it is for `--output yaml`."""
    rows = [
        (kind.removesuffix("s"), name)
        for kind in ("services", "routes", "rollouts")
        for name in found.config.get(kind, {})
    ]
    return f"version {found.version}\n{columns(('KIND', 'NAME'), rows, empty='it names nothing')}"


def revisions(found: Sequence[Revision], view: RolloutView, *, indent: int = 0) -> str:
    header = ("NUMBER", "REVISION", "VERSION", "IS", "SINCE", "CHANGE CAUSE")
    rows = [
        (str(r.number), r.revision, r.version, part(view, r.revision), moment(r.at), r.change_cause)
        for r in found
    ]
    return columns(header, rows, empty="no revisions", indent=indent)


def events(found: Sequence[Event], *, indent: int = 0) -> str:
    header = ("TIME", "RELEASE", "ACTOR", "REASON", "MESSAGE")
    rows = [(moment(e.at), str(e.release or ""), e.actor, e.reason, e.message) for e in found]
    return columns(header, rows, empty="no events", indent=indent)


def history(found: Sequence[Release]) -> str:
    header = ("RELEASE", "VERSION", "OUTCOME", "ENDED", "TOOK", "WEIGHT", "REASON")
    rows = [_release(release) for release in found]
    return columns(header, rows, empty="no release has ended yet", whole=False)


def _release(release: Release) -> Sequence[str]:
    took = format_rounded(release.ended - release.started) if release.started else ""
    return (
        str(release.number),
        release.version,
        release.outcome.value,
        moment(release.ended),
        took,
        f"{release.weight}%",
        _short(release.cause.reason if release.cause else release.reason),
    )


def _short(reason: str) -> str:
    return reason if len(reason) <= LONG else gist(reason)


def phases(view: RolloutView, *, indent: int = 0) -> str:
    header = ("", "STEP", "PHASE", "WEIGHT", "DURATION", "ERRORS", "P95", "P99")
    rows = [
        (
            mark(view, step.index),
            str(step.index + 1),
            step.phase,
            f"{step.weight}%",
            format_duration(step.duration),
            explain.shown("errorRate", step.limits.error_rate),
            explain.shown("latencyP95", _seconds(step.limits.latency_p95)),
            explain.shown("latencyP99", _seconds(step.limits.latency_p99)),
        )
        for step in view.steps
    ]
    return columns(header, rows, empty="no phases", indent=indent)


def variants(view: RolloutView, *, indent: int = 0) -> str:
    header = ("VARIANT", "VERSION", "REQ/S", "ERRORS", "P95", "P99", "REQUESTS", "FAILED", GAVE_UP, "READY")
    rows = [_variant(view, *variant) for variant in pair(view)]
    return columns(*without_empty(header, rows, GAVE_UP), empty="", indent=indent)


def _variant(view: RolloutView, name: str, revision: str | None, rates: Rates) -> Sequence[str]:
    return (
        name,
        version(view, revision),
        explain.rate(rates.requests_per_second),
        explain.shown("errorRate", rates.error_rate),
        explain.shown("latencyP95", rates.p95),
        explain.shown("latencyP99", rates.p99),
        f"{rates.requests:,}",
        f"{rates.errors:,}",
        f"{rates.abandoned:,}",
        running(view, revision),
    )


def instances(view: RolloutView, *, indent: int = 0) -> str:
    if view.workload is None:
        return " " * indent + "not known just now"
    header = ("NAME", "STATE", "PID", "PORT", "LOG")
    rows = [(i.name, i.state.value, str(i.pid or ""), str(i.port), i.log) for i in view.workload.instances]
    return columns(header, rows, empty="none", indent=indent)


def exits(found: Sequence[Exit], *, indent: int = 0) -> str:
    header = ("TIME", "INSTANCE", "HOW")
    rows = [(moment(e.at), e.instance, e.text) for e in found[-EXITS_SHOWN:]]
    return columns(header, rows, empty="none", indent=indent)


def _seconds(duration: timedelta | None) -> float | None:
    return duration.total_seconds() if duration is not None else None

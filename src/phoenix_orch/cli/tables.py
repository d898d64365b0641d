"""Views as text for people. Pure: what is shown depends on the view alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from phoenix_orch.cli.output import columns
from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.observation import Verdict, VerdictKind
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.orchestrator.views import Rates, RolloutView, ServiceView
from phoenix_orch.rollout.status import (
    ACTIVE,
    Cause,
    Event,
    Release,
    Revision,
    State,
    Verification,
)
from phoenix_orch.workload.workload import Exit

EXITS_SHOWN = 10
"""The newest ones, of both variants."""


def rollouts(views: Sequence[RolloutView]) -> str:
    header = ("NAME", "STATE", "STABLE", "CANARY", "PHASE", "WEIGHT", "SEEN", "VERDICT", "MESSAGE")
    return columns(
        header, [_rollout(view) for view in views], empty="no rollouts; `phoenix apply -f FILE` makes them"
    )


def _rollout(view: RolloutView) -> Sequence[str]:
    status = view.rollout.status
    return (
        view.rollout.name,
        status.state.value,
        version(view, status.stable),
        version(view, status.canary),
        phase(view),
        f"{status.weight}%",
        seen(view),
        view.verdict.kind.value if view.verdict and status.state in ACTIVE else "",
        status.message,
    )


def services(views: Sequence[ServiceView]) -> str:
    header = ("NAME", "VERSION", "REVISION", "READY", "ROLLOUT", "ADDRESS")
    rows = [
        (view.name, view.version, view.revision, f"{view.ready}/{view.replicas}", view.rollout, view.route)
        for view in views
    ]
    return columns(header, rows, empty="no services; `phoenix apply -f FILE` makes them")


def revisions(found: Sequence[Revision]) -> str:
    header = ("NUMBER", "REVISION", "VERSION", "SINCE", "CHANGE CAUSE")
    rows = [(str(r.number), r.revision, r.version, moment(r.at), r.change_cause) for r in found]
    return columns(header, rows, empty="no revisions")


def events(found: Sequence[Event]) -> str:
    header = ("TIME", "RELEASE", "ACTOR", "REASON", "MESSAGE")
    rows = [(moment(e.at), str(e.release or ""), e.actor, e.reason, e.message) for e in found]
    return columns(header, rows, empty="no events")


def history(found: Sequence[Release]) -> str:
    header = ("RELEASE", "VERSION", "REVISION", "OUTCOME", "ENDED", "TOOK", "WEIGHT", "REASON")
    return columns(header, [_release(release) for release in found], empty="no release has ended yet")


def _release(release: Release) -> Sequence[str]:
    took = format_rounded(release.ended - release.started) if release.started else ""
    return (
        str(release.number),
        release.version,
        release.revision,
        release.outcome.value,
        moment(release.ended),
        took,
        f"{release.weight}%",
        release.cause.reason if release.cause else release.reason,
    )


def status(view: RolloutView) -> str:
    """One rollout in a few lines."""
    state = view.rollout.status
    lines = [", ".join(filter(None, (f"{view.rollout.name}: {state.state.value}", message(view))))]
    lines.append(f"  stable {named(view, state.stable)}")
    if state.canary is not None:
        weight = f"{state.weight}% wanted, {seen(view) or 'not'} seen"
        lines.append(f"  canary {named(view, state.canary)}, {weight}")
    if state.state in ACTIVE and view.verdict is not None:
        lines.append(f"  verdict {view.verdict.kind.value}: {view.verdict.reason}")
    if view.time_left is not None:
        lines.append(f"  {format_rounded(view.time_left)} left")
    if state.cause is not None and state.state in (State.ROLLING_BACK, State.ROLLED_BACK):
        lines.append(f"  rolled back by {state.cause.trigger}: {state.cause.reason}")
    return "\n".join(lines)


def describe(view: RolloutView, found: Sequence[Event], kept: Sequence[Revision]) -> str:
    """Everything about one rollout."""
    rollout, state = view.rollout, view.rollout.status
    parts = [
        _pairs(
            ("Name", rollout.name),
            ("Service", f"{rollout.service}, {rollout.replicas} instances wanted"),
            ("Route", rollout.route),
            (
                "State",
                f"{state.state.value}, since {moment(state.since) if state.since else 'the beginning'}",
            ),
            ("Message", state.message),
            ("Release", f"{state.release}" + (" (return without steps)" if state.fast else "")),
            ("Stable", named(view, state.stable)),
            ("Canary", named(view, state.canary)),
            ("Weight", f"{state.weight}% wanted, {seen(view) or 'not'} seen"),
            (
                "Latched",
                ", ".join(named(view, r) for r in view.traffic.aborted) if view.traffic else "not known",
            ),
            ("Time left", format_rounded(view.time_left) if view.time_left is not None else ""),
        )
    ]
    parts += ["Phases", indent(phases(view))]
    parts += ["Variants", indent(variants(view))]
    if view.verdict is not None:
        parts += [
            "Verdict",
            indent(f"{view.verdict.kind.value}: {view.verdict.reason}"),
            indent(evidence(view.verdict)),
        ]
    if state.cause is not None:
        parts += ["Rolled back", indent(taken_back(state.cause))]
    if state.verification is not None:
        parts += ["Verification", indent(verification(state.verification))]
    parts += ["Instances", indent(instances(view))]
    if view.workload is not None and view.workload.exits:
        parts += ["Unexpected exits", indent(exits(view.workload.exits[-EXITS_SHOWN:]))]
    parts += ["Revisions", indent(revisions(kept))]
    parts += ["Events", indent(events(found))]
    return "\n".join(parts)


def explained(view: RolloutView) -> str:
    """Why the rollout stands where it stands, with the numbers."""
    state = view.rollout.status
    parts = [status(view)]
    cause = state.cause
    if cause is not None and state.state in (State.ROLLING_BACK, State.ROLLED_BACK):
        parts += ["", "Taken back because", indent(taken_back(cause))]
    elif view.verdict is not None:
        parts += ["", f"Verdict at {moment(view.verdict.at)}", indent(explain.sentence(view.verdict))]
        parts.append(indent(evidence(view.verdict)))
    else:
        parts += ["", "No verdict has been given yet."]
    if state.state is State.ROLLED_BACK:
        parts += ["", f"`phoenix rollout retry {view.rollout.name}` lifts the latch and tries it again."]
    return "\n".join(parts)


def taken_back(cause: Cause) -> str:
    lines = [
        f"{cause.trigger}: {cause.reason}",
        f"at {moment(cause.at)}, weight {cause.weight}%, by {cause.actor}",
    ]
    if cause.evidence:
        lines.append(evidence_rows(explain.rows(_as_verdict(cause))))
    return "\n".join(lines)


def _as_verdict(cause: Cause) -> Verdict:
    return Verdict(
        kind=VerdictKind.ROLLBACK,
        revision=cause.revision,
        step=cause.step or 0,
        at=cause.at,
        reason=cause.reason,
        evidence=cause.evidence,
    )


def evidence(verdict: Verdict) -> str:
    return evidence_rows(explain.rows(verdict))


def evidence_rows(rows: Sequence[explain.Row]) -> str:
    header = ("", "METRIC", "CANARY", "LIMIT", "STABLE", "SAMPLES", "WINDOW")
    found = [
        ("!" if r.breached else "ok", r.metric, r.observed, r.limit, r.stable, r.samples, r.window)
        for r in rows
    ]
    return columns(header, found, empty="no evidence")


def phases(view: RolloutView) -> str:
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
    return columns(header, rows, empty="no phases")


def mark(view: RolloutView, index: int) -> str:
    """`>` for the present step, `+` for one that is behind, nothing for one that is ahead."""
    state = view.rollout.status
    if state.state in (State.PROMOTING, State.BAKING, State.PROMOTED):
        return "+"
    if state.canary is None or state.state in (State.INITIALIZING, State.IDLE, State.STARTING):
        return " "
    return ">" if index == state.step else "+" if index < state.step else " "


def variants(view: RolloutView) -> str:
    header = ("VARIANT", "VERSION", "REQUESTS/S", "ERRORS", "P95", "P99", "REQUESTS", "FAILED", "READY")
    return columns(header, [_variant(view, *variant) for variant in pair(view)], empty="")


def pair(view: RolloutView) -> tuple[tuple[str, str | None, Rates], tuple[str, str | None, Rates]]:
    """(name, revision, rates) of the new and the old one; after a promotion the new one is stable."""
    state = view.rollout.status
    if state.state in (State.BAKING, State.PROMOTED):
        return ("new", state.stable, view.canary), ("old", state.previous, view.stable)
    return ("canary", state.canary, view.canary), ("stable", state.stable, view.stable)


def _variant(view: RolloutView, name: str, revision: str | None, rates: Rates) -> Sequence[str]:
    return (
        name,
        version(view, revision),
        f"{rates.requests_per_second * view.speed:.1f}",
        explain.shown("errorRate", rates.error_rate),
        explain.shown("latencyP95", rates.p95),
        explain.shown("latencyP99", rates.p99),
        f"{rates.requests:,}",
        f"{rates.errors:,}",
        running(view, revision),
    )


def instances(view: RolloutView) -> str:
    if view.workload is None:
        return "not known just now"
    header = ("NAME", "STATE", "PID", "PORT", "LOG")
    rows = [(i.name, i.state.value, str(i.pid or ""), str(i.port), i.log) for i in view.workload.instances]
    return columns(header, rows, empty="none")


def exits(found: Sequence[Exit]) -> str:
    header = ("TIME", "INSTANCE", "HOW")
    return columns(header, [(moment(e.at), e.instance, e.text) for e in found], empty="none")


def verification(found: Verification) -> str:
    rows = [("?" if s.unknown else "ok" if s.ok else "!", s.name, s.detail) for s in found.steps]
    return columns(("", "STEP", "RESULT"), rows, empty="no steps")


def running(view: RolloutView, revision: str | None) -> str:
    if view.workload is None or revision is None:
        return ""
    return f"{len(view.workload.ready(revision))}/{view.workload.wanted.get(revision, 0)}"


def message(view: RolloutView) -> str:
    """The machine's own word; nothing while it only repeats the verdict, which is shown anyway."""
    status = view.rollout.status
    repeats = status.state is State.PROGRESSING and view.verdict is not None
    return "" if repeats else status.message


def phase(view: RolloutView) -> str:
    """`expanded 2/7` while a release walks its steps."""
    state = view.rollout.status
    if state.state not in ACTIVE or state.step >= len(view.steps):
        return ""
    return f"{view.steps[state.step].phase} {state.step + 1}/{len(view.steps)}"


def seen(view: RolloutView) -> str:
    return f"{view.seen.weight}%" if view.seen is not None and view.seen.weight is not None else ""


def version(view: RolloutView, revision: str | None) -> str:
    return view.versions.get(revision, revision) if revision is not None else ""


def named(view: RolloutView, revision: str | None) -> str:
    """`1.5.0 (2222222222)`."""
    if revision is None:
        return "none"
    return f"{view.versions[revision]} ({revision})" if revision in view.versions else revision


def moment(at: datetime) -> str:
    """To the second, in UTC, as ISO 8601 has it."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def format_rounded(duration: timedelta) -> str:
    return format_duration(timedelta(seconds=round(max(0.0, duration.total_seconds()))))


def indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _pairs(*pairs: tuple[str, str]) -> str:
    shown = [(name, value) for name, value in pairs if value]
    size = max(len(name) for name, _ in shown) + 2
    return "\n".join(f"{name + ':':<{size}}{value}" for name, value in shown)


def _seconds(duration: timedelta | None) -> float | None:
    return duration.total_seconds() if duration is not None else None

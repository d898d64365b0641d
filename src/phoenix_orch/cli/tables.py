"""Lists as text for people, and the words that every picture of a rollout is made of. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from phoenix_orch.cli.output import GAVE_UP, columns, without_empty
from phoenix_orch.health_validator import explain
from phoenix_orch.kernel.text import plain
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.orchestrator.views import Rates, RolloutView, ServiceView
from phoenix_orch.rollout.status import (
    ACTIVE,
    Event,
    Release,
    Revision,
    State,
)
from phoenix_orch.workload.workload import Exit

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


def gist(text: str) -> str:
    """The first clause, for a line of a list; pages about one thing have all of it."""
    return re.split(r"[;.] ", text, maxsplit=1)[0]


def services(views: Sequence[ServiceView]) -> str:
    header = ("NAME", "VERSION", "REVISION", "READY", "ROLLOUT", "ADDRESS")
    rows = [
        (view.name, view.version, view.revision, f"{view.ready}/{view.replicas}", view.rollout, view.route)
        for view in views
    ]
    return columns(header, rows, empty="no services; `phoenix apply -f FILE` makes them")


def revisions(found: Sequence[Revision], view: RolloutView, *, indent: int = 0) -> str:
    header = ("NUMBER", "REVISION", "VERSION", "IS", "SINCE", "CHANGE CAUSE")
    rows = [
        (str(r.number), r.revision, r.version, part(view, r.revision), moment(r.at), r.change_cause)
        for r in found
    ]
    return columns(header, rows, empty="no revisions", indent=indent)


def part(view: RolloutView, revision: str) -> str:
    """`stable`, `canary`, `kept warm`, `latched`; nothing for one that is only kept to be gone back to."""
    status, traffic = view.rollout.status, view.traffic
    latched = traffic is not None and revision in traffic.aborted
    names = {
        "stable": revision == status.stable,
        "canary": revision == status.canary and not latched,
        "kept warm": revision == status.previous,
        "latched": latched,
    }
    return ", ".join(name for name, so in names.items() if so)


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


def mark(view: RolloutView, index: int) -> str:
    """`>` for the present step, `+` for one that is behind, nothing for one that is ahead."""
    state = view.rollout.status
    if state.state in (State.PROMOTING, State.BAKING, State.PROMOTED):
        return "+"
    if state.canary is None or state.state in (State.INITIALIZING, State.IDLE, State.STARTING):
        return " "
    return ">" if index == state.step else "+" if index < state.step else " "


def variants(view: RolloutView, *, indent: int = 0) -> str:
    header = ("VARIANT", "VERSION", "REQ/S", "ERRORS", "P95", "P99", "REQUESTS", "FAILED", GAVE_UP, "READY")
    rows = [_variant(view, *variant) for variant in pair(view)]
    return columns(*without_empty(header, rows, GAVE_UP), empty="", indent=indent)


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


def running(view: RolloutView, revision: str | None) -> str:
    if view.workload is None or revision is None:
        return ""
    return f"{len(view.workload.ready(revision))}/{view.workload.wanted.get(revision, 0)}"


def message(view: RolloutView) -> str:
    """The machine's own word; nothing while it only repeats verdict or cause, which are shown anyway."""
    status = view.rollout.status
    verdict = view.verdict if status.state in ACTIVE else None
    if status.state is State.PROGRESSING and verdict is not None:
        return ""
    shown = {verdict.reason if verdict else "", status.cause.reason if status.cause else ""}
    return "" if status.message in shown else status.message


def phase(view: RolloutView) -> str:
    """`expanded 2/7` while a release walks its steps."""
    state = view.rollout.status
    if state.state not in ACTIVE or state.step >= len(view.steps):
        return ""
    return f"{view.steps[state.step].phase} {state.step + 1}/{len(view.steps)}"


def wanted(view: RolloutView) -> str:
    """The share of traffic asked for: of the canary, or, where there is none, of stable, which has all."""
    status = view.rollout.status
    if status.canary is not None:
        return f"{status.weight}%"
    return "100%" if status.stable is not None and status.state is not State.INITIALIZING else ""


def seen(view: RolloutView) -> str:
    """The same share as the data plane is seen to send it; empty when that cannot be seen."""
    status, traffic = view.rollout.status, view.seen
    if traffic is None or traffic.weight is None:
        return ""
    if status.canary is not None:
        swapped = traffic.stable_revision == status.canary  # a promotion that is seen before it is noted
        return f"{100 - traffic.weight if swapped else traffic.weight}%"
    if traffic.stable_revision in (None, status.stable):
        return f"{100 - traffic.weight}%" if wanted(view) else ""
    return f"{traffic.weight if traffic.canary_revision == status.stable else 0}%"


def share(view: RolloutView) -> str:
    """`5% wanted, 5% seen`."""
    return f"{wanted(view) or 'nothing'} wanted, {seen(view) or 'not'} seen"


def version(view: RolloutView, revision: str | None) -> str:
    return plain(view.versions.get(revision, revision)) if revision is not None else ""


def named(view: RolloutView, revision: str | None) -> str:
    """`1.5.0 (2222222222)`."""
    if revision is None:
        return "none"
    return f"{version(view, revision)} ({revision})" if revision in view.versions else revision


def left(view: RolloutView) -> str:
    """`46m left`, and on a compressed clock what that is on a watch."""
    if view.time_left is None:
        return ""
    text = f"{format_rounded(view.time_left)} left"
    if view.speed != 1:
        text += f" ({format_rounded(view.time_left / view.speed)} on your watch)"
    return text


def moment(at: datetime) -> str:
    """To the second, in UTC, as ISO 8601 has it."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def format_rounded(duration: timedelta) -> str:
    return format_duration(timedelta(seconds=round(max(0.0, duration.total_seconds()))))


def _seconds(duration: timedelta | None) -> float | None:
    return duration.total_seconds() if duration is not None else None

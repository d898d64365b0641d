"""When a revision is taken back at once. Pure.

The guide ("Automatic Rollbacks") names error rates, latency spikes, resource exhaustion and custom
health checks. The first two arrive as verdicts; exhaustion and checks are judged here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from phoenix_orch.health_validator.observation import MetricEvidence, Verdict, VerdictKind
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import ACTIVE, State, Status
from phoenix_orch.workload.workload import Exit, InstanceState, WorkloadState


@dataclass(frozen=True, slots=True)
class CheckState:
    """A custom check's run of failures."""

    failures: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Trigger:
    """One reason to take a revision back."""

    name: str
    reason: str
    evidence: tuple[MetricEvidence, ...] = ()


def judged_revision(status: Status) -> str | None:
    """The revision that may be taken back now, or None."""
    if status.state in ACTIVE:
        return status.canary
    if status.state is State.BAKING and status.previous is not None:
        return status.stable
    return None


def evaluate(
    spec: RolloutSpec,
    status: Status,
    *,
    verdict: Verdict | None,
    workload: WorkloadState | None,
    checks: Mapping[str, CheckState],
    now: datetime,
    wall_now: datetime,
    wall_started: datetime | None,
) -> Trigger | None:
    """The first reason that holds, the most certain one first; None when there is none.

    `workload` None: not known now. `now` is rollout time, as in verdicts. `wall_now` and `wall_started`
    (the start of the release) are wall time, as in exits: processes crash in real time however much the
    rollout is compressed.
    """
    revision = judged_revision(status)
    if revision is None:
        return None
    exits = _recent(spec, workload, now=wall_now, started=wall_started)
    return (
        _exhausted(spec, status, revision, exits)
        or _nobody_ready(status, revision, workload, exits)
        or _failed_check(spec, checks)
        or _bad_verdict(spec, status, revision, verdict)
        or _silence(spec, status, revision, verdict, now)
    )


def _recent(
    spec: RolloutSpec, workload: WorkloadState | None, *, now: datetime, started: datetime | None
) -> tuple[Exit, ...]:
    """Unexpected exits of this release that are not too long ago to count."""
    begin = now - spec.policy.crash_loop.within
    if started is not None:
        begin = max(started, begin)
    return tuple(one for one in workload.exits if _not_before(begin, one.at)) if workload is not None else ()


def _not_before(begin: datetime, at: datetime) -> bool:
    """A cluster tells whole seconds: an end in the second of `begin` may have come after it."""
    whole = at.microsecond == 0
    return at >= (begin.replace(microsecond=0) if whole else begin)


def _other(status: Status) -> str | None:
    """The revision that takes over when the one under judgement is taken back."""
    return status.stable if status.state in ACTIVE else status.previous


def _exhausted(spec: RolloutSpec, status: Status, revision: str, recent: tuple[Exit, ...]) -> Trigger | None:
    """Out of memory, a program that cannot be started, or a crash loop: more exits than the variant it is
    compared with."""
    rule = spec.policy.crash_loop
    own = [one for one in recent if one.revision == revision]
    if not own:
        return None
    killed = [one for one in own if one.reason == "oom"]
    if killed:
        return Trigger("memory", f"{killed[-1].instance} went above its memory limit")
    excess = len(own) - sum(1 for one in recent if one.revision == _other(status))
    if excess < rule.exits:
        return None
    if all(one.reason == "cannot-start" for one in own):
        return Trigger("cannot-start", f"it {own[-1].text} ({len(own)} attempts)")
    ends = ", ".join(one.text for one in own[-3:])
    return Trigger(
        "crash-loop",
        f"{len(own)} unexpected exits within {format_duration(rule.within)}, "
        f"{excess} more than stable ({ends})",
    )


def _nobody_ready(
    status: Status, revision: str, workload: WorkloadState | None, recent: tuple[Exit, ...]
) -> Trigger | None:
    """It serves users with nobody who is ready, although somebody was; others are ready to take over.

    Readiness is lost after several failed looks in a row, so a hiccup does not come this far. Instances
    that only start have lost nothing: after a restart of the machine all do. An end is another matter
    with a canary, whose share goes to stable until it is back, than with the one that serves everybody.
    """
    if workload is None or (status.state in ACTIVE and status.weight == 0):
        return None
    others = len(workload.ready(_other(status) or ""))
    staying = [one for one in workload.of(revision) if one.state is not InstanceState.DRAINING]
    if others == 0 or not staying or workload.ready(revision):
        return None
    found = Counter(one.state for one in staying)
    ended = found[InstanceState.BACKOFF] > 0 or any(one.revision == revision for one in recent)
    if found[InstanceState.UNREADY] == 0 and not (status.state is State.BAKING and ended):
        return None
    states = ", ".join(f"{count} {state}" for state, count in found.items() if count)
    name = "stable" if status.state in ACTIVE else "the revision before"
    verb = "is" if others == 1 else "are"
    return Trigger(
        "unready", f"no instance of it is ready any more ({states}), while {others} of {name} {verb}"
    )


def _failed_check(spec: RolloutSpec, checks: Mapping[str, CheckState]) -> Trigger | None:
    for check in spec.checks:
        state = checks.get(check.name, CheckState())
        if state.failures >= check.threshold:
            return Trigger(
                f"check/{check.name}",
                f"check {check.name} failed {state.failures} times in a row: {state.detail}",
            )
    return None


def _bad_verdict(spec: RolloutSpec, status: Status, revision: str, verdict: Verdict | None) -> Trigger | None:
    if verdict is None or verdict.kind is not VerdictKind.ROLLBACK or verdict.revision != revision:
        return None
    if status.release_started is not None and verdict.at < status.release_started:
        return None
    if spec.policy.on_failure == "pause" and status.state in ACTIVE:
        return None
    return Trigger("verdict", verdict.reason, verdict.evidence)


def _silence(
    spec: RolloutSpec, status: Status, revision: str, verdict: Verdict | None, now: datetime
) -> Trigger | None:
    """The validator has been silent for too long, and the policy says not to wait for it."""
    if spec.policy.on_stale_verdict != "rollback" or status.step_clock is None:
        return None
    last = status.step_clock
    if verdict is not None and verdict.revision == revision:
        last = max(last, verdict.at)
    if now - last <= spec.policy.stale_verdict:
        return None
    silent = format_duration(spec.policy.stale_verdict)
    return Trigger("stale-verdict", f"the health validator has been silent for more than {silent}")

"""Everything about one rollout as text for people: status, description, explanation. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from phoenix_orch.cli import tables
from phoenix_orch.cli.output import columns
from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.observation import Category, Verdict, VerdictKind
from phoenix_orch.kernel.text import counted
from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.status import ACTIVE, Cause, Event, Release, Revision, State, Verification

_TAKEN_BACK = frozenset({State.ROLLING_BACK, State.ROLLED_BACK})


def status(view: RolloutView) -> str:
    """One rollout in a few lines."""
    state = view.rollout.status
    lines = [", ".join(filter(None, (f"{view.rollout.name}: {state.state.value}", tables.message(view))))]
    stable = f"  stable {tables.named(view, state.stable)}"
    if state.canary is None:
        lines.append(f"{stable}, {tables.share(view)}" if tables.wanted(view) else stable)
    else:
        lines += [stable, f"  canary {tables.named(view, state.canary)}, {tables.share(view)}"]
    if step := _step(view):
        lines.append(f"  {step}")
    if state.state in ACTIVE and view.verdict is not None:
        lines.append(f"  verdict {view.verdict.kind.value}: {view.verdict.reason}")
    if ends := _end_of_hold(view):
        lines.append(f"  {ends}")
    if view.time_left is not None:
        lines.append(f"  {tables.left(view)}")
    if state.cause is not None and state.state in _TAKEN_BACK:
        lines.append(f"  rolled back by {state.cause.trigger}: {state.cause.reason}")
    if state.verification is not None and not state.verification.ok:
        lines += [f"  {line}" for line in _failures(state.verification)]
    return "\n".join(lines)


def _end_of_hold(view: RolloutView) -> str:
    """What comes, and when, of a release that waits for a person."""
    state, policy = view.rollout.status, view.rollout.spec.policy
    waits = view.verdict is not None and view.verdict.category is Category.NO_DECISION
    if not waits or state.state is not State.PROGRESSING or state.hold_since is None:
        return ""
    deed = "it is taken back" if policy.on_hold_timeout == "rollback" else "it is paused"
    at = tables.moment(state.hold_since + policy.hold_timeout)
    return f"without a word {deed} at {at} (holdTimeout, onHoldTimeout: {policy.on_hold_timeout})"


def describe(view: RolloutView, found: Sequence[Event], kept: Sequence[Revision]) -> str:
    """Everything about one rollout."""
    rollout, state = view.rollout, view.rollout.status
    latched = view.traffic.aborted if view.traffic is not None else None
    since = tables.moment(state.since) if state.since else "the beginning"
    parts = [
        _pairs(
            ("Name", rollout.name),
            ("Service", f"{rollout.service}, {counted(rollout.replicas, 'instance')} wanted"),
            ("Route", rollout.route),
            ("State", f"{state.state.value}, since {since}"),
            ("Message", state.message),
            ("Release", f"{state.release}" + (" (return without steps)" if state.fast else "")),
            ("Stable", tables.named(view, state.stable)),
            ("Canary", tables.named(view, state.canary)),
            ("Weight", tables.share(view)),
            (
                "Latched",
                "not known" if latched is None else ", ".join(tables.named(view, r) for r in latched),
            ),
            ("Time left", tables.left(view).removesuffix(" left").replace(" left (", " (")),
        ),
    ]
    parts += ["Phases", tables.phases(view, indent=2)]
    parts += ["Variants", tables.variants(view, indent=2)]
    if view.verdict is not None:
        parts += [
            "Verdict",
            f"  {view.verdict.kind.value}: {view.verdict.reason}",
            evidence(view.verdict, indent=2),
        ]
    if state.cause is not None:
        parts += ["Rolled back", taken_back(state.cause, indent=2)]
    if state.verification is not None:
        parts += verification(state.verification)
    parts += ["Instances", tables.instances(view, indent=2)]
    if view.workload is not None and view.workload.exits:
        parts += ["Unexpected exits", tables.exits(view.workload.exits, indent=2)]
    parts += ["Revisions", tables.revisions(kept, view, indent=2)]
    parts += ["Events", tables.events(found, indent=2)]
    return "\n".join(parts)


def explained(view: RolloutView) -> str:
    """Why the rollout stands where it stands, with the numbers."""
    state = view.rollout.status
    parts = [status(view)]
    cause = state.cause
    if cause is not None and state.state in _TAKEN_BACK:
        parts += ["", "Taken back because", taken_back(cause, indent=2)]
    elif view.verdict is not None:
        parts += ["", f"Verdict at {tables.moment(view.verdict.at)}", f"  {explain.sentence(view.verdict)}"]
        parts.append(evidence(view.verdict, indent=2))
    else:
        parts += ["", "No verdict has been given yet."]
    if state.verification is not None:
        parts += ["", *verification(state.verification)]
    if state.state is State.ROLLED_BACK:
        parts += ["", f"`phoenix rollout retry {view.rollout.name}` lifts the latch and tries it again."]
    return "\n".join(parts)


def release(found: Release) -> str:
    """One line of the history, whole."""
    took = tables.format_rounded(found.ended - found.started) if found.started else ""
    parts = [
        _pairs(
            ("Release", str(found.number)),
            ("Revision", f"{found.version} ({found.revision})" if found.version else found.revision),
            ("Replaced", found.replaced or "nothing"),
            ("Outcome", found.outcome.value),
            ("Started", tables.moment(found.started) if found.started else ""),
            ("Ended", tables.moment(found.ended)),
            ("Took", took),
            ("Weight", f"{found.weight}%"),
            ("Reason", "" if found.cause else found.reason),
        )
    ]
    if found.cause is not None:
        parts += ["Taken back because", taken_back(found.cause, indent=2)]
    elif found.verdict is not None:
        parts += ["Last verdict", f"  {found.verdict.kind.value}: {found.verdict.reason}"]
        parts.append(evidence(found.verdict, indent=2))
    if found.verification is not None:
        parts += verification(found.verification)
    return "\n".join(parts)


def taken_back(cause: Cause, *, indent: int) -> str:
    space = " " * indent
    lines = [
        f"{space}{cause.trigger}: {cause.reason}",
        f"{space}at {tables.moment(cause.at)}, weight {cause.weight}%, by {cause.actor}",
    ]
    if cause.evidence:
        lines.append(evidence(_as_verdict(cause), indent=indent))
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


def evidence(verdict: Verdict, *, indent: int) -> str:
    header = ("", "METRIC", "CANARY", "LIMIT", "STABLE", "SAMPLES", "WINDOW")
    found = [
        ("!" if r.breached else "ok", r.metric, r.observed, r.limit, r.stable, r.samples, r.window)
        for r in explain.rows(verdict)
    ]
    return columns(header, found, empty="no evidence", indent=indent)


def verification(found: Verification) -> list[str]:
    """The result of every step, those that failed with what was found."""
    rows = [("?" if s.unknown else "ok" if s.ok else "!", s.name, s.detail) for s in found.steps]
    return [
        f"Verification after the {found.kind} of release {found.release}, at {tables.moment(found.at)}",
        columns(("", "STEP", "RESULT"), rows, empty="no steps", indent=2),
    ]


def _failures(found: Verification) -> list[str]:
    bad = [step for step in found.steps if not (step.ok or step.unknown)]
    return [f"verification after the {found.kind} failed: {step.name}: {step.detail}" for step in bad]


def _step(view: RolloutView) -> str:
    """`step 2 of 6: expanded, 20% for 15m, 4m of them over`, while a release walks."""
    state = view.rollout.status
    if state.state not in ACTIVE or state.step >= len(view.steps):
        return ""
    step = view.steps[state.step]
    lasts = tables.format_rounded(step.duration)
    text = f"step {state.step + 1} of {len(view.steps)}: {step.phase}, {step.weight}% for {lasts}"
    if state.step_clock is None:
        return text
    return f"{text}, {tables.format_rounded(view.at - state.step_clock)} of them over"


def _pairs(*pairs: tuple[str, str]) -> str:
    shown = [(name, value) for name, value in pairs if value]
    size = max(len(name) for name, _ in shown) + 2
    return "\n".join(f"{name + ':':<{size}}{value}" for name, value in shown)

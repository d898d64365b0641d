"""The live view: which release of the four this is, where it stands, and what users see. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from phoenix_orch.demo import figures
from phoenix_orch.demo.scenario import Planned
from phoenix_orch.demo.users import Users
from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.orchestrator.views import Rates, RolloutView
from phoenix_orch.rollout.spec import Step
from phoenix_orch.rollout.status import Event, Outcome, State

_EVENT_LINES = 6
_PHASES_BEFORE = frozenset({State.INITIALIZING, State.IDLE, State.STARTING})
_PHASES_AFTER = frozenset({State.PROMOTING, State.BAKING, State.PROMOTED})
_ALL_TRAFFIC = frozenset({State.BAKING, State.PROMOTED})
_STATE_STYLE = {
    State.PROMOTED: "bold green",
    State.ROLLING_BACK: "bold red",
    State.ROLLED_BACK: "bold red",
    State.PAUSED: "bold yellow",
}
_VERDICT_STYLE = {
    VerdictKind.CONTINUE: "green",
    VerdictKind.ADVANCE: "bold green",
    VerdictKind.EXTEND: "yellow",
    VerdictKind.HOLD: "yellow",
    VerdictKind.ROLLBACK: "bold red",
}


@dataclass
class Scene:
    """Everything one picture is made of."""

    releases: Sequence[Planned]
    speed: float
    address: str = ""
    """Where users call the shop."""
    current: int = -1
    """Which release is on its way; -1: none yet."""
    good: list[bool] = field(default_factory=list)
    """Of the releases that ended: was it as expected?"""
    view: RolloutView | None = None
    events: Sequence[Event] = ()
    users: Users = field(default_factory=Users)
    """Since the load began."""
    release_users: Users = field(default_factory=Users)
    """Since the present release began."""
    rate: float = 0.0
    """Requests per second that users get answered now."""
    message: str = ""
    """What is waited for while there is no view."""


def picture(scene: Scene) -> RenderableType:
    """One frame; fits 80 by 24."""
    blocks: list[RenderableType] = [_title(scene), _releases(scene)]
    if scene.view is None:
        blocks.append(Text(f"\n {scene.message}", style="dim"))
        return Group(*blocks)
    blocks += [_rollout(scene.view), _users(scene), *_events(scene)]
    return Group(*blocks)


def _title(scene: Scene) -> Text:
    text = Text(" Phoenix demo", style="bold", no_wrap=True, overflow="ellipsis")
    text.append(f"  one minute of the guide lasts {60 / scene.speed:.1f} s here", style="dim")
    if scene.address:
        text.append(f"  {scene.address}", style="dim")
    return text


def _releases(scene: Scene) -> Text:
    text = Text(" ", no_wrap=True, overflow="ellipsis")
    for number, planned in enumerate(scene.releases):
        if number < len(scene.good):
            ok = scene.good[number]
            text.append(f"{'✓' if ok else '✗'} {planned.name}", style="green" if ok else "bold red")
        elif number == scene.current:
            text.append(f"▶ {planned.name}", style="bold cyan")
        else:
            text.append(f"· {planned.name}", style="dim")
        text.append("  ")
    if 0 <= scene.current < len(scene.releases):
        planned = scene.releases[scene.current]
        text.append(f"\n {scene.current + 1} of {len(scene.releases)}: ", style="bold cyan")
        text.append(planned.title, style="bold")
        style = "green" if planned.expected is Outcome.PROMOTED else "red"
        text.append(f" - expected: {planned.expectation}", style=style)
    return text


def _rollout(view: RolloutView) -> Panel:
    status = view.rollout.status
    title = Text(style="not dim")
    title.append(f"{view.rollout.service} {_version(view, status.stable)}")
    if status.canary is not None:
        title.append(f" → {_version(view, status.canary)}")
    title.append(f"  {status.state.value}", style=_STATE_STYLE.get(status.state, "bold cyan"))
    body = Group(_phases(view), _weights(view), Text(), _variants(view), Text(), _verdict(view))
    return Panel(body, title=title, title_align="left", border_style="dim", padding=(0, 1))


def _version(view: RolloutView, revision: str | None) -> str:
    if revision is None:
        return "-"
    return f"v{view.versions.get(revision, revision)}"


def _phases(view: RolloutView) -> Text:
    status = view.rollout.status
    text = Text(no_wrap=True, overflow="ellipsis")
    for number, (phase, steps) in enumerate(_grouped(view.steps)):
        if number:
            text.append(" > ", style="dim")
        text.append(phase, style=_phase_style(view, steps))
        for step in steps:
            text.append(f" {step.weight} %", style=_step_style(view, step))
    bake = "bold cyan reverse" if status.state is State.BAKING else "dim"
    text.append(" > ", style="dim")
    text.append("bake", style="green" if status.state is State.PROMOTED else bake)
    return text


def _grouped(steps: Sequence[Step]) -> list[tuple[str, list[Step]]]:
    grouped: list[tuple[str, list[Step]]] = []
    for step in steps:
        if not grouped or grouped[-1][0] != step.phase:
            grouped.append((step.phase, []))
        grouped[-1][1].append(step)
    return grouped


def _phase_style(view: RolloutView, steps: Sequence[Step]) -> str:
    styles = {_step_style(view, step) for step in steps}
    for style in ("bold cyan reverse", "bold red reverse"):
        if style in styles:
            return "bold"
    return "green" if styles == {"green"} else "dim"


def _step_style(view: RolloutView, step: Step) -> str:
    status = view.rollout.status
    if status.state in _PHASES_BEFORE:
        return "dim"
    if status.state in _PHASES_AFTER or step.index < status.step:
        return "green"
    if step.index > status.step:
        return "dim"
    taken_back = status.state in (State.ROLLING_BACK, State.ROLLED_BACK, State.CANCELLING)
    return "bold red reverse" if taken_back else "bold cyan reverse"


def _weights(view: RolloutView) -> Text:
    status = view.rollout.status
    wanted, seen = status.weight, view.seen.weight if view.seen is not None else None
    if status.state in _ALL_TRAFFIC and view.seen is not None:
        wanted, seen = 100, 100 if view.seen.stable_revision == status.stable else seen
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"weight {wanted} % wanted, ")
    text.append(f"{seen} % seen" if seen is not None else "not seen", style="" if seen is not None else "red")
    if view.time_left is not None:
        real = timedelta(seconds=view.time_left.total_seconds() / view.speed)
        text.append(f"   time left {figures.clock(view.time_left)} ({figures.clock(real)} here)")
    if view.traffic is not None and status.canary in view.traffic.aborted:
        text.append("   latched", style="bold red")
    return text


def _variants(view: RolloutView) -> Table:
    status = view.rollout.status
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("variant", no_wrap=True, min_width=12)
    for title in ("requests/s", "errors", "p95", "p99", "requests", "failed", "running"):
        table.add_column(title, justify="right", no_wrap=True)
    baking = status.state in _ALL_TRAFFIC
    candidate = status.stable if baking else status.canary
    rest = status.previous if baking else status.stable
    table.add_row(*_variant(view, "new" if baking else "canary", candidate, view.canary))
    table.add_row(*_variant(view, "old" if baking else "stable", rest, view.stable))
    return table


def _variant(view: RolloutView, name: str, revision: str | None, rates: Rates) -> tuple[str, ...]:
    running = "-"
    if view.workload is not None and revision is not None:
        running = f"{len(view.workload.ready(revision))}/{view.workload.wanted.get(revision, 0)}"
    return (
        f"{name} {_version(view, revision)}",
        f"{rates.requests_per_second * view.speed:.0f}",
        figures.percent(rates.error_rate),
        figures.latency(rates.p95),
        figures.latency(rates.p99),
        f"{rates.requests:,}",
        f"{rates.errors:,}",
        running,
    )


def _verdict(view: RolloutView) -> Text:
    """Two lines, so that the picture keeps its height."""
    text = Text(no_wrap=True, overflow="ellipsis")
    cause, verdict = view.rollout.status.cause, view.verdict
    if cause is not None:
        text.append(f"rollback by {cause.trigger}", style="bold red")
        text.append(f"\n{cause.reason}")
    elif verdict is not None and verdict.revision in (
        view.rollout.status.canary,
        view.rollout.status.stable,
    ):
        text.append("verdict ", style="dim")
        text.append(verdict.kind.value, style=_VERDICT_STYLE[verdict.kind])
        text.append(f"\n{verdict.reason}")
    else:
        text.append("no verdict yet", style="dim")
        text.append(f"\n{view.rollout.status.message}", style="dim")
    return text


def _users(scene: Scene) -> Text:
    now, total = scene.release_users, scene.users
    text = Text(" users  ", style="bold", no_wrap=True, overflow="ellipsis")
    text.append(f"{scene.rate:.0f}/s, p95 {figures.latency(total.p95)}", style="not bold")
    text.append(f"   this release: {now.sent:,} requests, ", style="not bold")
    text.append(f"{now.failed:,} failed", style="bold red" if now.failed else "green")
    text.append(f" (in all {total.failed:,})", style="not bold dim")
    return text


def _events(scene: Scene) -> list[Text]:
    assert scene.view is not None
    lines = []
    for event in scene.events[-_EVENT_LINES:]:
        age = (scene.view.at - event.at).total_seconds() / scene.speed
        line = Text(" ", no_wrap=True, overflow="ellipsis")
        line.append(f"{_ago(age):>8}  ", style="dim")
        line.append(f"{event.reason} ", style="bold")
        line.append(event.message)
        lines.append(line)
    return lines


def _ago(seconds: float) -> str:
    return f"{max(0.0, seconds):.0f} s ago" if seconds < 100 else f"{seconds / 60:.0f} m ago"

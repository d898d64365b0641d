"""The live view: which release of the four this is, where it stands, and what users see. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from phoenix_orch.cli import live
from phoenix_orch.demo import figures
from phoenix_orch.demo.scenario import Planned
from phoenix_orch.demo.users import Users
from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.status import Event, Outcome

_MOST_EVENTS = 10


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


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame, at most as high as the terminal: the last events fill what the rest leaves free."""

    scene: Scene

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        above = _above(self.scene)
        yield above
        free = console.height - 1 - len(console.render_lines(above, options.update(height=None)))
        if self.scene.view is not None and free > 0:
            yield from _events(self.scene, self.scene.view, min(free, _MOST_EVENTS))


def _above(scene: Scene) -> RenderableType:
    blocks: list[RenderableType] = [_title(scene), _releases(scene)]
    if scene.view is None:
        return Group(*blocks, Text(f"{scene.message} ...", style="dim"))
    return Group(*blocks, _users(scene), live.render(scene.view))


def _title(scene: Scene) -> Text:
    text = Text("Phoenix demo", style="bold", no_wrap=True, overflow="ellipsis")
    text.append(f"  one minute of the guide lasts {60 / scene.speed:.1f} s here", style="not bold dim")
    if scene.address:
        text.append(f"  {scene.address}", style="not bold dim")
    return text


def _releases(scene: Scene) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
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
        text.append(f"\n{scene.current + 1} of {len(scene.releases)}: ", style="bold cyan")
        text.append(planned.title, style="bold")
        style = "green" if planned.expected is Outcome.PROMOTED else "red"
        text.append(f" - expected: {planned.expectation}", style=style)
    return text


def _users(scene: Scene) -> Text:
    now, total = scene.release_users, scene.users
    text = Text("users  ", style="bold", no_wrap=True, overflow="ellipsis")
    text.append(f"{scene.rate:.0f}/s here, p95 {figures.latency(total.p95)}", style="not bold")
    text.append(f"   this release: {now.sent:,} requests, ", style="not bold")
    text.append(f"{now.failed:,} failed", style="bold red" if now.failed else "green")
    text.append(f" (in all {total.failed:,})", style="not bold dim")
    return text


def _events(scene: Scene, view: RolloutView, lines: int) -> list[Text]:
    shown = []
    for event in scene.events[-lines:]:
        age = (view.at - event.at).total_seconds() / scene.speed
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{_ago(age):>8}  ", style="dim")
        line.append(f"{event.reason} ", style="bold")
        line.append(event.message)
        shown.append(line)
    return shown


def _ago(seconds: float) -> str:
    return f"{max(0.0, seconds):.0f} s ago" if seconds < 100 else f"{seconds / 60:.0f} m ago"

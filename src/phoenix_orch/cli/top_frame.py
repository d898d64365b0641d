"""One frame of `phoenix top`: what is releasing, what is wrong, what is due. Pure.

A frame is a list of lines, each cut at the width of the terminal. What does not fit is counted, never
squeezed: what is releasing comes first, then what is wrong, then what is due, then all the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from phoenix_orch.cli import live, tables
from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.kernel.text import counted, plain
from phoenix_orch.orchestrator.flow_views import FreezeView
from phoenix_orch.orchestrator.views import Rates, RolloutView
from phoenix_orch.rollout.status import ACTIVE, RESTING, State

GOOD, BAD, WAITING, NOW, DIM = "green", "bold red", "yellow", "bold cyan", "dim"
SOON = timedelta(days=2)
"""A freeze that begins within it is shown as due."""
_STYLES = {
    State.PROMOTED: GOOD,
    State.BAKING: GOOD,
    State.PAUSED: WAITING,
    State.ROLLING_BACK: BAD,
    State.ROLLED_BACK: BAD,
}
_TRACK = {"+": "━", ">": "▶", " ": "·"}
_SETTLED = frozenset({"ready", "running", "leading", "standby", "ok"})


class Mode(StrEnum):
    LIST = "list"
    DETAILS = "details"
    HELP = "help"


@dataclass(frozen=True, slots=True)
class Picture:
    """All that was learnt at one look."""

    views: tuple[RolloutView, ...] = ()
    freezes: tuple[FreezeView, ...] = ()
    components: tuple[dict[str, Any], ...] = ()
    at: datetime | None = None
    trouble: str = ""
    """Why the last look failed; the rest is then as it was before."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the person looks at."""

    selected: str = ""
    mode: Mode = Mode.LIST


@dataclass(frozen=True, slots=True)
class _Part:
    title: str
    lines: list[Text] = field(default_factory=list)


def ordered(views: Sequence[RolloutView]) -> list[RolloutView]:
    """What is on its way first, then what waits, then what was taken back, then the others."""
    return sorted(views, key=lambda view: (_rank(view), view.rollout.name))


def _rank(view: RolloutView) -> int:
    state = view.rollout.status.state
    if state not in RESTING:
        return 0
    if view.rollout.status.obstacle is not None:
        return 1
    return 2 if state is State.ROLLED_BACK else 3


def pressed(place: Place, key: str, views: Sequence[RolloutView]) -> Place | None:
    """Where a key leads; None: out of the program."""
    names = [view.rollout.name for view in ordered(views)]
    if key == "q" or (key == "escape" and place.mode is Mode.LIST):
        return None
    if key == "?":
        return replace(place, mode=Mode.LIST if place.mode is Mode.HELP else Mode.HELP)
    if key in ("escape", "left", "h") or (key == "enter" and place.mode is not Mode.LIST):
        return replace(place, mode=Mode.LIST)
    if key in ("enter", "right", "l") and names:
        return Place(selected=_chosen(place, names), mode=Mode.DETAILS)
    steps = {"j": 1, "down": 1, "k": -1, "up": -1, "g": -len(names), "G": len(names)}
    if key in steps and names:
        at = names.index(_chosen(place, names)) + steps[key]
        return replace(place, selected=names[min(max(at, 0), len(names) - 1)])
    return place


def _chosen(place: Place, names: Sequence[str]) -> str:
    return place.selected if place.selected in names else names[0]


def frame(picture: Picture, place: Place, columns: int, rows: int | None) -> RenderableType:
    """The frame for a terminal of this size; `rows` None: as long as it gets, for a pipe."""
    views = ordered(picture.views)
    chosen = _chosen(place, [view.rollout.name for view in views]) if views else ""
    if place.mode is Mode.HELP:
        return Group(*_fitted([_title(picture), Text(), *_help()], rows))
    if place.mode is Mode.DETAILS and views:
        view = next(one for one in views if one.rollout.name == chosen)
        body = live.fitted(view, columns, (rows or live.LOWEST) - 2)
        return Group(body, Text(), _cut(_keys("Enter or Esc back   j k next   q quit   ? help")))
    marked = chosen if rows is not None else ""
    head = [_title(picture), *_trouble(picture)]
    foot = [_keys("j k select   Enter details   ? help   q quit")] if rows is not None else []
    room = None if rows is None else max(1, rows - len(head) - len(foot))
    lines = [*head, *_body(picture, views, marked, room)]
    if rows is not None:
        lines = lines[: rows - len(foot)]
        lines += [Text()] * (rows - len(foot) - len(lines))
    return Group(*(_cut(line) for line in (*lines, *foot)))


def _body(picture: Picture, views: Sequence[RolloutView], marked: str, room: int | None) -> list[Text]:
    moving = [view for view in views if _rank(view) == 0]
    resting = [view for view in views if _rank(view) > 0]
    parts = [
        _Part("Releasing", [line for view in moving for line in _release(view, marked=marked)]),
        _Part("Wrong", list(_wrong(picture, views))),
        _Part("Due", list(_due(picture, views))),
    ]
    lines: list[Text] = []
    for part in parts:
        if part.lines:
            lines += [_heading(part.title), *part.lines]
    if not moving:
        lines = [_heading("Releasing"), Text("  nothing", style=DIM), *lines]
    ending = [*_components(picture)]
    rest = [_resting(view, marked=marked) for view in resting]
    if room is None:
        return [*lines, *([_heading("At rest"), *rest] if rest else []), *ending]
    return [*_around(lines, marked, room), *_filled(rest, marked, room - len(lines) - len(ending)), *ending]


def _around(lines: list[Text], marked: str, room: int) -> list[Text]:
    """As many of the lines as there is room for, those of what is selected among them."""
    if len(lines) <= room:
        return lines
    at = next((index for index, line in enumerate(lines) if line.plain.startswith(f"▸ {marked} ")), 0)
    first = min(max(0, at - room // 2), len(lines) - room)
    return lines[first : first + room]


def _filled(rest: list[Text], marked: str, room: int) -> list[Text]:
    """What is at rest, in the lines that are left."""
    if room < 2 or not rest:
        return []
    shown = _around(rest, marked, room - 1)
    more = len(rest) - len(shown)
    title = _heading("At rest")
    if more:
        title.append(f"  {more} more", style=DIM)
    return [title, *shown]


# -- parts -----------------------------------------------------------------------------------------


def _title(picture: Picture) -> Text:
    moving = sum(_rank(view) == 0 for view in picture.views)
    waiting = sum(_rank(view) == 1 for view in picture.views)
    text = Text.assemble(
        ("Phoenix", "bold"),
        f"  {counted(len(picture.views), 'rollout')}, {moving} releasing, {waiting} waiting",
    )
    if picture.at is not None:
        text.append(f"  {tables.moment(picture.at)}", style=DIM)
    speed = picture.views[0].speed if picture.views else 1.0
    if speed != 1:
        text.append(f"  time x{speed:g}", style=WAITING)
    return text


def _trouble(picture: Picture) -> list[Text]:
    return [Text(f"not up to date: {plain(picture.trouble)}", style=BAD)] if picture.trouble else []


def _heading(title: str) -> Text:
    return Text(title, style="bold underline")


def _keys(text: str) -> Text:
    return Text(text, style="reverse")


def _release(view: RolloutView, *, marked: str) -> Iterator[Text]:
    """Two lines: where it is, and how it does."""
    status, name = view.rollout.status, view.rollout.name
    line = Text("▸ " if name == marked else "  ", style=NOW if name == marked else "")
    line.append(name, style="bold").append(f" {tables.version(view, status.stable) or 'nothing'}")
    if status.canary is not None:
        line.append(f"→{tables.version(view, status.canary)}")
    line.append(" ").append(status.state.value, style=_STYLES.get(status.state, NOW))
    if track := "".join(_TRACK[tables.mark(view, step.index)] for step in view.steps):
        line.append(f" {track}", style=GOOD)
    if tables.phase(view):
        line.append(f" {tables.phase(view)}")
    line.append(f"  {tables.wanted(view) or '-'} ({tables.seen(view) or 'not'} seen)")
    if view.time_left is not None:
        line.append(f"  {tables.format_rounded(view.time_left)} left", style=DIM)
    yield line
    yield _doing(view)


def _doing(view: RolloutView) -> Text:
    status = view.rollout.status
    (new, _, canary), (old, _, stable) = tables.pair(view)
    line = Text("    ")
    line.append(f"errors {_both('errorRate', canary, stable)}  p95 {_both('latencyP95', canary, stable)}")
    line.append(f" ({new}/{old})  ", style=DIM)
    if status.cause is not None and status.state is State.ROLLING_BACK:
        return line.append(f"taken back by {status.cause.trigger}: {plain(status.cause.reason)}", style=BAD)
    if status.obstacle is not None:
        return line.append(plain(status.obstacle.message), style=WAITING)
    if view.verdict is not None and status.state in ACTIVE | {State.BAKING}:
        kind = view.verdict.kind
        style = {VerdictKind.ROLLBACK: BAD, VerdictKind.HOLD: WAITING, VerdictKind.EXTEND: WAITING}
        return line.append(f"{kind.value}: ", style=style.get(kind, GOOD)).append(plain(view.verdict.reason))
    return line.append(plain(status.message), style=DIM)


def _both(metric: str, canary: Rates, stable: Rates) -> str:
    def of(rates: Rates) -> float | None:
        return rates.error_rate if metric == "errorRate" else rates.p95

    return f"{explain.shown(metric, of(canary))}/{explain.shown(metric, of(stable))}"


def _wrong(picture: Picture, views: Sequence[RolloutView]) -> Iterator[Text]:
    for one in picture.components:
        if one.get("state") not in _SETTLED:
            detail = f": {plain(str(one['detail']))}" if one.get("detail") else ""
            yield Text(
                f"  {one.get('name', 'component')} is {one.get('state', 'unknown')}{detail}", style=BAD
            )
    for view in views:
        status, name = view.rollout.status, view.rollout.name
        for fault in view.faults:
            yield Text(f"  {name}: {fault.at}: {plain(fault.message)}", style=BAD)
        if status.state is State.ROLLED_BACK and status.cause is not None:
            told = f"{status.cause.trigger}: {plain(status.cause.reason)}"
            yield Text(f"  {name} was rolled back by {told}", style=BAD)
        if status.verification is not None and not status.verification.ok:
            yield Text(f"  {name}: verification failed: {plain(status.verification.failures)}", style=BAD)
        if view.traffic is not None and view.traffic.drifted:
            yield Text(f"  {name}: its weight was changed by somebody else", style=BAD)


def _due(picture: Picture, views: Sequence[RolloutView]) -> Iterator[Text]:
    for one in picture.freezes:
        about = ",".join(one.freeze.rollouts)
        until = tables.moment(one.until) if one.until is not None else "a person ends it"
        why = f" ({plain(one.freeze.reason)})" if one.freeze.reason else ""
        if one.open:
            yield Text(f"  freeze {one.freeze.name} of {about} until {until}{why}", style=WAITING)
        elif one.begin is not None and picture.at is not None and one.begin - picture.at <= SOON:
            yield Text(f"  freeze {one.freeze.name} of {about} begins at {tables.moment(one.begin)}{why}")
    for view in views:
        status, name = view.rollout.status, view.rollout.name
        if status.obstacle is not None and status.state in RESTING:
            wanted = tables.version(view, view.rollout.target)
            yield Text(f"  {name} {wanted} waits: {plain(status.obstacle.message)}", style=WAITING)
        if status.state is State.PAUSED:
            yield Text(f"  {name} waits for a person: {plain(status.message)}", style=WAITING)
        if status.state is State.BAKING and status.step_clock is not None:
            ends = tables.moment(status.step_clock + view.rollout.spec.policy.bake)
            yield Text(f"  {name}: its bake ends at {ends}")


def _resting(view: RolloutView, *, marked: str) -> Text:
    status, name = view.rollout.status, view.rollout.name
    line = Text("▸ " if name == marked else "  ", style=NOW if name == marked else "")
    line.append(name, style="bold").append(f" {tables.version(view, status.stable) or 'nothing'} ")
    line.append(status.state.value, style=_STYLES.get(status.state, DIM))
    if view.workload is not None and status.stable is not None:
        line.append(f"  {tables.running(view, status.stable)} ready", style=DIM)
    return line


def _components(picture: Picture) -> list[Text]:
    if not picture.components:
        return []
    line = Text("Components ", style="bold")
    for one in picture.components:
        state = str(one.get("state", "unknown"))
        line.append(f" {one.get('name', '?')} ", style="")
        line.append(plain(state), style=GOOD if state in _SETTLED else BAD)
    return [line]


def _help() -> list[Text]:
    keys = (
        ("j, down / k, up", "select the next, or the one before"),
        ("g / G", "select the first, or the last"),
        ("Enter", "details of what is selected; again: back"),
        ("Esc", "back, and out of the list"),
        ("?", "this page, and away again"),
        ("q", "quit; releases go on"),
    )
    words = (
        ("━ ▶ ·", "steps that are behind, the one that runs, those to come"),
        ("20% (5% seen)", "the share asked for, and the share that the router is seen to send"),
        ("errors 0.2%/0.1%", "of the new version, and of the one before, over the evidence window"),
    )
    width = max(len(name) for name, _ in (*keys, *words)) + 3
    return [Text(f"  {name:<{width}}{told}") for name, told in (*keys, ("", ""), *words)]


def _cut(line: Text) -> Text:
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _fitted(lines: list[Text], rows: int | None) -> list[Text]:
    return [_cut(line) for line in (lines if rows is None else lines[:rows])]

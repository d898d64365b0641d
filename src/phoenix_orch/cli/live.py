"""The live view of one rollout. Pure: a view in, something Rich can print out."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from phoenix_orch.cli import tables
from phoenix_orch.cli.output import compressed
from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.observation import MetricEvidence, VerdictKind
from phoenix_orch.health_validator.rules import ABANDONED
from phoenix_orch.orchestrator.views import Rates, RolloutView
from phoenix_orch.rollout.status import ACTIVE, State

_GOOD, _BAD, _WAITING, _NOW = "green", "bold red", "yellow", "bold cyan"
_STATE_STYLE = {
    State.PROMOTED: "bold green",
    State.BAKING: "green",
    State.PAUSED: _WAITING,
    State.ROLLING_BACK: _BAD,
    State.ROLLED_BACK: _BAD,
}
_VERDICT_STYLE = {
    VerdictKind.CONTINUE: _GOOD,
    VerdictKind.ADVANCE: _GOOD,
    VerdictKind.EXTEND: _WAITING,
    VerdictKind.HOLD: _WAITING,
    VerdictKind.ROLLBACK: _BAD,
}
NARROWEST, LOWEST = 40, 12
"""Columns and rows from which on a terminal gets the whole frame; a lower one would lose the verdict."""
_TAKEN_BACK = frozenset({State.ROLLING_BACK, State.ROLLED_BACK, State.CANCELLING})
_MARKS = {">": ("▶", _NOW), "+": ("✓", _GOOD), " ": ("·", "dim")}


def render(view: RolloutView, *, clock: bool = False) -> RenderableType:
    """One frame of at most 20 lines, readable from 60 columns and without colour.

    `clock`: say that times are compressed, where they are and nothing around the frame says it.
    """
    told = compressed(view.speed) if clock else ""
    return Group(
        *([Text(told, style="dim")] if told else []),
        _title(view),
        Rule(style="dim"),
        _phases(view),
        _weight(view),
        Text(),
        _variants(view),
        Text(),
        *_why(view),
    )


def fitted(view: RolloutView, columns: int, rows: int) -> RenderableType:
    """A frame for a terminal of this size: in a small one a few lines, what matters most first."""
    if columns >= NARROWEST and rows >= LOWEST:
        return render(view, clock=True)
    return Group(*_few(view)[: max(1, rows)])


def _few(view: RolloutView) -> list[Text]:
    status = view.rollout.status
    share = tables.seen(view) or tables.wanted(view)
    title = Text.assemble((view.rollout.name, "bold"), " ")
    title.append(status.state.value, style=_STATE_STYLE.get(status.state, _NOW)).append(f" {share}")
    lines = [title]
    if status.cause is not None and status.state in _TAKEN_BACK:
        lines.append(Text(f"rolled back by {status.cause.trigger}", style=_BAD))
        reason = status.cause.reason
    elif view.verdict is not None and status.state in ACTIVE:
        kind = view.verdict.kind
        lines.append(Text.assemble(("verdict ", "dim"), (kind.value, _VERDICT_STYLE[kind])))
        reason = view.verdict.reason
    else:
        reason = status.message
    lines += [Text(part) for part in (tables.phase(view), tables.left(view), reason) if part]
    for text in lines:
        text.no_wrap, text.overflow = True, "ellipsis"
    return lines


def line(view: RolloutView) -> str:
    """The same in one line, for logs and pipes."""
    status = view.rollout.status
    parts = [tables.moment(view.at), view.rollout.name, status.state.value]
    if tables.phase(view):
        parts.append(f"phase {tables.phase(view)}")
    parts.append(f"weight {tables.wanted(view) or '-'} seen {tables.seen(view) or '-'}")
    if status.cause is not None and status.state in _TAKEN_BACK:
        parts.append(f"rolled back by {status.cause.trigger}: {status.cause.reason}")
    elif status.state in ACTIVE and view.verdict is not None:
        parts.append(f"verdict {view.verdict.kind.value}: {view.verdict.reason}")
    elif status.message:
        parts.append(status.message)
    return "  ".join(parts)


def change_key(view: RolloutView) -> object:
    """Equal for two views between which nothing happened that deserves a line."""
    status = view.rollout.status
    kind = view.verdict.kind if view.verdict is not None and status.state in ACTIVE else None
    return status.state, status.step, status.weight, tables.seen(view), kind, status.cause, status.release


def _title(view: RolloutView) -> Text:
    status = view.rollout.status
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(view.rollout.name, style="bold")
    text.append(f"  {tables.version(view, status.stable) or 'nothing'}")
    if status.canary is not None:
        text.append(f" → {tables.version(view, status.canary)}")
    text.append("  ")
    text.append(status.state.value, style=_STATE_STYLE.get(status.state, _NOW))
    if view.time_left is not None:
        text.append(f"  {tables.left(view)}")
    return text


def _phases(view: RolloutView) -> Text:
    """`✓ initial 5%  ▶ expanded 20%  · full 40% 60% 80% 100%  · bake`."""
    status = view.rollout.status
    text = Text(overflow="fold")
    phase = ""
    for step in view.steps:
        symbol, style = _MARKS[tables.mark(view, step.index)]
        if symbol == "▶" and status.state in _TAKEN_BACK:
            symbol, style = "✗", _BAD
        if step.phase != phase:
            text.append("  " if phase else "")
            text.append(f"{symbol} {step.phase}", style=style)
        elif symbol in "▶✗":
            text.append(f" {symbol}", style=style)
        text.append(f" {step.weight}%", style=style)
        phase = step.phase
    symbol, style = {
        State.BAKING: ("▶", _NOW),
        State.PROMOTED: ("✓", _GOOD),
    }.get(status.state, ("·", "dim"))
    return text.append(f"  {symbol} bake", style=style)


def _weight(view: RolloutView) -> Text:
    status = view.rollout.status
    text = Text(f"weight {tables.wanted(view) or 'nothing'} wanted, ", no_wrap=True, overflow="ellipsis")
    shown = tables.seen(view)
    text.append(
        f"{shown} seen" if shown else "not seen: the router does not answer", style="" if shown else _BAD
    )
    if view.traffic is not None and view.traffic.drifted:
        text.append("  changed by somebody else", style=_BAD)
    if view.traffic is not None and view.traffic.aborted and status.state in _TAKEN_BACK:
        text.append("  latched", style=_BAD)
    return text


def _variants(view: RolloutView) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    for title in ("", "version"):
        table.add_column(title, no_wrap=True)
    given_up = any(rates.abandoned for _, _, rates in tables.pair(view))
    left = ("gave up",) if given_up else ()
    for title in ("req/s", "errors", "p95", "p99", "requests", "failed", *left, "ready"):
        table.add_column(title, justify="right", no_wrap=True)
    breached = _breached(view)
    for name, revision, rates in tables.pair(view):
        bad = breached if name in ("canary", "new") else frozenset()
        table.add_row(
            name,
            tables.version(view, revision) or "-",
            explain.rate(rates.requests_per_second),
            Text(explain.shown("errorRate", rates.error_rate), style=_BAD if "errorRate" in bad else ""),
            Text(explain.shown("latencyP95", rates.p95), style=_BAD if "latencyP95" in bad else ""),
            Text(explain.shown("latencyP99", rates.p99), style=_BAD if "latencyP99" in bad else ""),
            f"{rates.requests:,}",
            f"{rates.errors:,}",
            *_left(rates, bad=ABANDONED in bad, shown=given_up),
            tables.running(view, revision) or "-",
        )
    return table


def _left(rates: Rates, *, bad: bool, shown: bool) -> tuple[Text, ...]:
    """Requests that clients gave up on; no cell where nobody ever did."""
    return (Text(f"{rates.abandoned:,}", style=_BAD if bad else ""),) if shown else ()


def _breached(view: RolloutView) -> frozenset[str]:
    return frozenset(item.metric for item in _evidence(view) if item.breached)


def _evidence(view: RolloutView) -> tuple[MetricEvidence, ...]:
    status = view.rollout.status
    if status.cause is not None and status.state in _TAKEN_BACK:
        return status.cause.evidence
    return view.verdict.evidence if view.verdict is not None and status.state in ACTIVE else ()


def _why(view: RolloutView) -> list[Text]:
    """Verdict or cause, the numbers against their limits, and what the machine says."""
    status = view.rollout.status
    lines = []
    if status.cause is not None and status.state in _TAKEN_BACK:
        lines.append(Text(f"rolled back by {status.cause.trigger}: {status.cause.reason}", style=_BAD))
    elif view.verdict is not None and status.state in ACTIVE:
        style = _VERDICT_STYLE[view.verdict.kind]
        lines.append(
            Text.assemble(("verdict ", "dim"), (view.verdict.kind.value, style), f": {view.verdict.reason}")
        )
    lines += [_metric(item) for item in _evidence(view)[:5]]
    if tables.message(view):
        lines.append(Text(tables.message(view), style="dim"))
    return lines


def _metric(item: MetricEvidence) -> Text:
    observed = explain.shown(item.metric, item.observed, item.bound)
    stable = explain.shown(item.metric, item.stable, item.stable_bound)
    limit = f"{'at least' if item.at_least else 'at most'} {explain.shown(item.metric, item.limit)}"
    text = (
        f"{'!' if item.breached else ' '} {explain.title(item.metric)} {observed}, {limit}, stable {stable}"
    )
    return Text(text, style=_BAD if item.breached else "dim", no_wrap=True, overflow="ellipsis")

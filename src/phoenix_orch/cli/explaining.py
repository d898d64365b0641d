"""What `phoenix rollout explain` shows: one sentence, four numbers, one picture."""

from __future__ import annotations

from pathlib import Path

from phoenix_orch.cli import chart_terminal, pages, records
from phoenix_orch.cli.options import Output
from phoenix_orch.cli.output import columns, emit, say, span, width
from phoenix_orch.cli.progress import working
from phoenix_orch.cli.reaching import reading
from phoenix_orch.health_validator import explain as words
from phoenix_orch.health_validator.explanation import (
    Explanation,
    Metric,
    explained,
    unrecorded,
)
from phoenix_orch.health_validator.observation import Slower
from phoenix_orch.health_validator.recording import Header
from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.orchestrator import released
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import State

PLAIN_WIDTH = 100
"""Columns where standard output is no terminal."""


def show(
    there: Access | None,
    data_dir: Path,
    name: str,
    *,
    release: int | None,
    metric: str | None,
    chart: Path | None,
    output: Output,
) -> None:
    """Of one release, the last where none is named; `chart`: a file to draw the picture in."""
    if chart is not None:
        from phoenix_orch.cli import chart_file  # noqa: PLC0415 - draws with an extra

        chart_file.check(chart)
    with reading(there, data_dir) as client, working("judging what was recorded"):
        view = client.rollout(name)
        try:
            record = records.of_release(client, name, release)
        except NotFound:
            if release is not None or chart is not None:
                raise
            emit(output, _unrecorded(view), pages.explained(view), speed=view.speed)
            return
        ended = client.history(name, limit=released.ENDED)
        decided, cause = released.decided(view, ended, record.header.release)
        found = explained(
            record,
            record.header.spec or RolloutSpec(),
            decided=decided,
            cause=cause,
            metric=metric,
            standing=released.standing(view, record.header.release),
        )
    if chart is not None:
        chart_file.write(chart, found)
    emit(output, found, _text(found, view), speed=view.speed)
    if output is Output.TABLE:
        _draw(found, chart)


def _unrecorded(view: RolloutView) -> Explanation:
    """Nothing was observed that could be judged again: what was said at the time."""
    status = view.rollout.status
    revision = status.canary or status.stable or ""
    header = Header(
        rollout=view.rollout.name,
        release=status.release,
        revision=revision,
        version=view.versions.get(revision, ""),
    )
    return unrecorded(header, view.rollout.spec.policy.gate, view.verdict, status.cause)


def _text(found: Explanation, view: RolloutView) -> str:
    limit = width()
    lines = [*_wrapped(found.sentence, limit), ""]
    size = max(len(number.value) for number in found.numbers)
    for number in found.numbers:
        head = f"  {number.name:<9} {number.value:>{size}}   "
        lines += _wrapped(number.meaning, limit, head=head)
    if found.missing:
        lines += ["", "Missing", *(part for text in found.missing for part in _wrapped(f"  {text}", limit))]
    if found.counterfactual:
        said = found.counterfactual
        lines += ["", *_wrapped(f"{said[:1].upper()}{said[1:]}.", limit)]
    for note in found.notes:
        lines += ["", *_wrapped(f"Note: {note}", limit)]
    strong = found.e is not None and found.e_threshold is not None and found.e * 10 >= found.e_threshold
    lines += ["", _metrics(found.metrics, strong=strong)]
    state = view.rollout.status
    if state.verification is not None and state.verification.release == found.release:
        lines += ["", *pages.verification(state.verification)]
    if state.state is State.ROLLED_BACK and found.release == state.release:
        lines += ["", f"`phoenix rollout retry {view.rollout.name}` lifts the latch and tries it again."]
    return "\n".join(lines)


def _metrics(metrics: tuple[Metric, ...], *, strong: bool) -> str:
    """`strong`: there is so much evidence that it matters which metric brought it."""
    empty = "nothing is limited"
    values, counts = [], []
    for item in metrics:
        values.append(_values(item))
        counts.append(_counts(item, strong=strong))
        if item.slower is not None and _apart(item):
            values.append(_values_beside(item, item.slower))
            counts.append(_counts_beside(item, item.slower))
    names = [row[0] for row in values]
    header = (*VALUES, *COUNTS)
    whole = [(*one, *other) for one, other in zip(values, counts, strict=True)]
    limit = width()
    if limit is None or span(header, whole) <= limit:
        return columns(header, whole, empty=empty)
    named = [(name, *other) for name, other in zip(names, counts, strict=True)]
    return f"{columns(VALUES, values, empty=empty)}\n\n{columns((VALUES[0], *COUNTS), named, empty=empty)}"


VALUES = ("METRIC", "CANARY", "LIMIT", "STABLE", "TIER", "STRONGEST TEST")
COUNTS = ("BLAME", "N", "INTERVAL", "ALLOWED", "DISPERSION")


def _values(item: Metric) -> tuple[str, ...]:
    return (
        item.title,
        words.shown(item.metric, item.observed, item.bound),
        words.shown(item.metric, item.limit),
        words.shown(item.metric, item.stable_observed, item.stable_bound),
        item.tier.value if item.tier is not None else "",
        _strongest(item),
    )


def _strongest(item: Metric) -> str:
    """Evidence of one test alone, and against what; that of all latency may have a row of its own."""
    sides = [("limit", item.e_limit), ("stable", None if _apart(item) else item.e_stable)]
    known = [(e, side) for side, e in sides if e is not None]
    if not known:
        return ""
    e, side = max(known, key=lambda pair: pair[0])
    return f"{words.odds(e)}, {side}"


def _apart(item: Metric) -> bool:
    return item.slower is not None and "stable" in item.blamed


def _values_beside(item: Metric, found: Slower) -> tuple[str, ...]:
    """Of all latency, the edge at which both variants differ most."""
    mine, theirs = found.bad / found.samples, found.stable_bad / found.stable_samples
    name, test = f"over {words.seconds(found.edge)}", f"{words.odds(item.e_stable or 0.0)}, stable"
    return name, words.percent(mine), "-", words.percent(theirs), "", test


def _counts_beside(item: Metric, found: Slower) -> tuple[str, ...]:
    return words.part(item.blame_stable), words.number(found.samples), "", "", ""


def _counts(item: Metric, *, strong: bool) -> tuple[str, ...]:
    """The interval is of the share of bad requests, which for latency is another thing than the value."""
    interval = allowed = ""
    blame = item.blame - item.blame_stable if _apart(item) else item.blame
    if item.lower is not None and item.upper is not None:
        if words.tells(item.lower, item.upper, item.share_limit, convicted="limit" in item.blamed):
            interval = words.interval(item.lower, item.upper)
        allowed = words.percent(item.share_limit) if item.share_limit is not None else ""
    return (
        words.part(blame) if blame and strong else "",
        words.number(item.n) if item.n else "",
        interval,
        allowed,
        f"{item.dispersion:.2g}" if item.dispersion is not None else "",
    )


def _draw(found: Explanation, chart: Path | None) -> None:
    """In the terminal, with colours where it has them."""
    if found.picture is None:
        return
    lines = chart_terminal.draw(found.picture, width() or PLAIN_WIDTH)
    if not lines:
        return
    from rich.console import Console  # noqa: PLC0415 - only when something is drawn
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False, width=max(chart_terminal.WIDEST, width() or 0))
    console.print()
    for line in lines:
        console.print(Text.assemble(*line), no_wrap=True, overflow="crop")
    if chart is not None:
        say(f"\nthe picture is in {chart}")


def _wrapped(text: str, limit: int | None, *, head: str = "") -> list[str]:
    """Broken between words on a terminal; whole in a pipe. `head` is what stands before it."""
    import textwrap  # noqa: PLC0415

    if limit is None:
        return [head + text]
    indent = " " * (len(head) + len(text) - len(text.lstrip()))
    together = text.replace(" %", "\u00a0%")
    return [
        line.replace("\u00a0", " ")
        for line in textwrap.wrap(together, limit, initial_indent=head, subsequent_indent=indent)
    ]

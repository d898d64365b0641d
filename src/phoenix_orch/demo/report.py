"""The end of the demo: what came of each release, the evidence of each rollback, and the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from phoenix_orch.demo import figures
from phoenix_orch.demo.story import Story, outcome_text
from phoenix_orch.health_validator import explain
from phoenix_orch.rollout.status import Cause, Outcome, Verification, VerifyStep


def summary(stories: Sequence[Story], *, speed: float, note: str = "") -> RenderableType:
    """The table of all releases, then the evidence, then one line that says how it went.

    `note`: what may be why something is not as expected."""
    blocks: list[RenderableType] = [_table(stories)]
    for story in stories:
        if story.release is not None and story.release.outcome is Outcome.ROLLED_BACK:
            blocks += [Text(), _evidence(story, speed)]
    return Group(*blocks, Text(), _last_line(stories, note))


def as_json(stories: Sequence[Story], *, speed: float, rate: float) -> dict[str, Any]:
    """The report for programs. Durations are seconds; `seconds` and `ended` are real time, the others
    are of the compressed clock."""
    return {
        "speed": speed,
        "rate": rate,
        "ok": all(not story.faults for story in stories),
        "releases": [_story_json(story) for story in stories],
    }


def _table(stories: Sequence[Story]) -> Table:
    """Fits 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold underline")
    for title in ("release", "expected", "outcome"):
        table.add_column(title, no_wrap=True)
    for title in ("guide\ntime", "time\nhere", "top\nweight", "canary\nreq.", "users'\nfailed"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("because of", min_width=11)
    for story in stories:
        table.add_row(
            f"{story.planned.name} v{story.planned.version}",
            outcome_text(story.planned.expected),
            _outcome(story),
            figures.clock(story.lasted),
            f"{story.seconds:.0f} s",
            f"{story.highest_weight} %",
            f"{story.canary_requests}",
            f"{story.users.failed}",
            _why(story),
        )
    return table


def _why(story: Story) -> str:
    cause = story.release.cause if story.release is not None else None
    if cause is None:
        return ""
    blamed = [explain.title(evidence.metric) for evidence in cause.evidence if evidence.breached]
    why = ", ".join(blamed) if cause.trigger == "verdict" and blamed else cause.trigger
    return f"{why}, which was not planned" if story.for_another_reason else why


def _outcome(story: Story) -> Text:
    if story.release is None:
        return Text("no end", style="bold red")
    text = outcome_text(story.release.outcome)
    return Text(f"✗ {text}", style="bold red") if story.faults else Text(f"✓ {text}", style="green")


def _evidence(story: Story, speed: float) -> RenderableType:
    release = story.release
    assert release is not None
    cause = release.cause
    title = Text.assemble((f"{story.planned.name} v{story.planned.version} was taken back", "bold"))
    lines = Table.grid(padding=(0, 1, 0, 0))
    lines.add_row(" ", "", cause.reason if cause is not None else release.reason)
    for evidence in cause.evidence if cause is not None else ():
        style, mark = ("red", "✗") if evidence.breached else ("dim", "·")
        lines.add_row(" ", Text(mark, style), Text(figures.sentence(evidence), style))
    if story.exits:
        ends = ", ".join(end.text for end in story.exits)
        lines.add_row(" ", Text("✗", "red"), Text(f"unexpected exits: {len(story.exits)} ({ends})", "red"))
    if cause is not None:
        lines.add_row(" ", "", Text(_when(story, cause, speed), "dim"))
    if release.verification is not None:
        lines.add_row(" ", "", Text(_afterwards(release.verification), "dim"))
    return Group(title, lines)


def _afterwards(verification: Verification) -> str:
    steps = verification.steps
    names = ", ".join(f"{step.name} {_mark(step)}" for step in steps)
    return f"afterwards, on stable: {names}"


def _mark(step: VerifyStep) -> str:
    if step.unknown:
        return "?"
    return "✓" if step.ok else f"✗ ({step.detail})"


def _when(story: Story, cause: Cause, speed: float) -> str:
    after = story.took_back_after
    guide = figures.clock(after)
    real = f"{after.total_seconds() / speed:.1f} s here" if after is not None else "-"
    step = f"step {cause.step + 1}, " if cause.step is not None else ""
    return (
        f"by {cause.trigger}, {guide} of the guide's time ({real}) after its start, "
        f"{step}at {cause.weight} % of the traffic; in all users saw {_requests(story.users.failed)}"
    )


def _requests(failed: int) -> str:
    return f"{failed or 'no'} failed request{'' if failed == 1 else 's'}"


def _last_line(stories: Sequence[Story], note: str) -> Text:
    wrong = [story for story in stories if story.faults]
    if not wrong:
        return Text(f"{_all(len(stories))} ended as expected.", style="bold green")
    text = Text("Not as expected: ", style="bold red")
    text.append("; ".join(f"{story.planned.name}: {', '.join(story.faults)}" for story in wrong))
    return text.append(f"\n{note}") if note else text


def _all(number: int) -> str:
    return "The release" if number == 1 else f"All {number} releases"


def _story_json(story: Story) -> dict[str, Any]:
    release = story.release
    return {
        "name": story.planned.name,
        "version": story.planned.version,
        "revision": story.revision,
        "expected": story.planned.expected.value,
        "outcome": release.outcome.value if release else None,
        "faults": list(story.faults),
        "seconds": round(story.seconds, 3),
        "guideSeconds": _seconds(story.lasted),
        "guideSecondsToRollback": _seconds(story.took_back_after),
        "highestWeight": story.highest_weight,
        "canaryRequests": story.canary_requests,
        "canaryErrors": story.canary_errors,
        "users": story.users.model_dump(mode="json", by_alias=True, exclude={"at"}),
        "exits": [exit_.model_dump(mode="json") for exit_ in story.exits],
        "history": release.model_dump(mode="json") if release else None,
    }


def _seconds(duration: timedelta | None) -> float | None:
    return round(duration.total_seconds(), 3) if duration is not None else None

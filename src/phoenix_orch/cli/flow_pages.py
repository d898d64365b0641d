"""Freezes, groups and numbers of delivery as text for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from phoenix_orch.cli import tables
from phoenix_orch.cli.output import columns
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.orchestrator.flow_views import FreezeView, GroupView, OverrideView
from phoenix_orch.rollout.dora import Dora, DoraReport, Share, Spans

MEASURED = (
    "Lead time: from the moment a revision is first wanted until it is promoted, bake included. Time to "
    "restore: from the decision to take a change back until stable serves everybody. Both are medians; "
    "n is how many they are of. The interval is that of 95%."
)
FEW = 10
"""Counts below it are said to be few: one more or less changes the number."""


def freezes(found: Sequence[FreezeView]) -> str:
    header = ("FREEZE", "NOW", "FROM", "UNTIL", "ROLLOUTS", "UNDER WAY", "BY", "REASON")
    rows = [
        (
            view.freeze.name,
            "in force" if view.open else "to come",
            tables.moment(view.begin) if view.begin is not None else "ever",
            end_of(view),
            ",".join(view.freeze.rollouts),
            f"{view.freeze.releases_under_way}s",
            view.by or "configuration",
            view.freeze.reason,
        )
        for view in found
    ]
    return columns(header, rows, empty="no freeze is in force or to come")


def end_of(view: FreezeView) -> str:
    return tables.moment(view.until) if view.until is not None else "a person ends it"


def started(view: FreezeView, *, dry_run: bool) -> str:
    word = "would be" if dry_run else "is"
    about = "" if view.freeze.rollouts == ("*",) else f" of {', '.join(view.freeze.rollouts)}"
    way = "go on" if view.freeze.releases_under_way == "continue" else "get no more weight"
    return (
        f"freeze {view.freeze.name} {word} in force until {end_of(view)}: no release{about} begins; "
        f"those under way {way}"
    )


def ended(view: FreezeView, *, dry_run: bool) -> str:
    word = "would end" if dry_run else "has ended"
    return f"freeze {view.freeze.name} {word}; what waited for it alone goes on"


def overridden(view: OverrideView, *, dry_run: bool) -> str:
    word = "would wait" if dry_run else "waits"
    return f"revision {view.revision} of {view.rollout} {word} for no freeze any more"


def groups(found: Sequence[GroupView]) -> str:
    header = ("GROUP", "STAGE", "ROLLOUT", "STANDING", "AT ONCE", "WAITS FOR")
    rows = [
        (
            view.group.name,
            str(member.stage or ""),
            member.rollout,
            member.standing.value,
            str(view.group.max_concurrent or "any"),
            member.waits if member.standing.value == "waiting" else "",
        )
        for view in found
        for member in view.members
    ]
    return columns(header, rows, empty="there are no groups")


def dora(report: DoraReport) -> str:
    """A table with each count beside its number, and what was measured."""
    window = format_duration(report.end - report.begin)
    header = ("ROLLOUT", "DEPLOYED", "PER DAY", "LEAD TIME", "CHANGE FAILURES", "TIME TO RESTORE")
    shown = [*report.rollouts, report.total] if len(report.rollouts) != 1 else list(report.rollouts)
    rows = [_dora(one) for one in shown]
    lines = [
        f"The last {window}, until {tables.moment(report.end)}.",
        columns(header, rows, empty="there are no rollouts"),
        MEASURED,
    ]
    late = [one for one in report.rollouts if one.since > report.begin]
    lines += [
        f"The history of {one.rollout} reaches back to {tables.moment(one.since)} only." for one in late
    ]
    if 0 < report.total.change_failures.of < FEW:
        lines.append(f"With fewer than {FEW} changes one more or less moves every number.")
    return "\n".join(lines)


def _dora(one: Dora) -> Sequence[str]:
    return (
        one.rollout or "all",
        str(one.deployments),
        f"{one.per_day:.2f}",
        _spans(one.lead_time),
        _share(one.change_failures, one.caught),
        _spans(one.time_to_restore),
    )


def _spans(found: Spans) -> str:
    if found.median is None:
        return "none"
    return f"{tables.format_rounded(found.median or timedelta(0))} (n={found.n})"


def _share(found: Share, caught: int) -> str:
    if found.rate is None or found.lower is None or found.upper is None:
        return "no changes"
    text = f"{found.rate:.0%} ({found.n} of {found.of}, {found.lower:.0%} to {found.upper:.0%}"
    return f"{text}; {caught} before they served everybody)" if found.n else f"{text})"

"""How drills are shown to a person. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from phoenix_orch.cli.output import columns
from phoenix_orch.recovery.drill_report import Kind, Report, Step, span, trend

if TYPE_CHECKING:
    from phoenix_orch.orchestrator.drills import Planned


def listing(reports: Sequence[Report], faults: Sequence[str]) -> str:
    rows = [
        (
            f"{one.started:%Y-%m-%dT%H:%M:%SZ}",
            one.kind.value,
            _verdict(one),
            span(one.rto),
            _worst(one),
            one.id,
            one.reasons[0] if one.reasons else "",
        )
        for one in reports
    ]
    header = ("TIME", "KIND", "RESULT", "RTO", "RPO", "ID", "REASON")
    table = columns(
        header, rows, empty="there was no drill yet; run one: phoenix drill run daily", whole=False
    )
    return "\n".join([table, *faults])


def page(report: Report, former: Sequence[Report]) -> str:
    """One drill."""
    rows = [
        (
            step.phase.value,
            step.component,
            _copy(step),
            f"{step.seconds:.2f} s",
            "ok" if step.passed else "FAILED",
            step.detail,
        )
        for step in report.steps
    ]
    target = f" of {span(report.rto_target)}" if report.rto_target is not None else ""
    when = f"{report.started:%Y-%m-%d %H:%M:%S}"
    parts = [
        f"{report.kind.value} drill {report.id} of {when} UTC: {_verdict(report)}",
        *(f"  {reason}" for reason in report.reasons),
        "",
        columns(("STEP", "COMPONENT", "BACKUP", "TIME", "RESULT", "FOUND"), rows, empty="", whole=False),
        "",
        f"RTO {span(report.rto)}{target}; trend: {trend(report, former)}",
        *(
            f"RPO of {one.component}: "
            f"{'nothing can be recovered' if one.achieved is None else span(one.achieved)}"
            f" of {span(one.target)}"
            for one in report.rpo
        ),
        f"evidence {report.evidence}",
    ]
    return "\n".join(parts)


def _copy(step: Step) -> str:
    return f"{step.backup} ({step.tier})" if step.tier else step.backup


def _verdict(report: Report) -> str:
    return "PASS" if report.passed else "FAIL"


def _worst(report: Report) -> str:
    known = [one.achieved for one in report.rpo]
    if not known:
        return ""
    return "none" if None in known else span(max(one for one in known if one is not None))


def planned(kind: Kind, found: Planned) -> str:
    """What a drill would look at."""
    rows = [(one.component, one.backup or "NONE", one.tier, one.problem) for one in found.copies]
    seed = f"; `--seed {found.seed}` draws the same" if found.seed else ""
    head = f"a {kind.value} drill would look at{seed}:"
    header = ("COMPONENT", "BACKUP", "OF", "PROBLEM")
    return f"{head}\n{columns(header, rows, empty='nothing is backed up here', whole=False)}"

"""What a drill has found: its steps with their times, RPO and RTO against targets, and the verdict. Pure.

A report passes when every step did and every target was met; each reason against it is named. Its evidence is
a SHA-256 over everything else in it, in canonical JSON, so that a copy of it on paper can be compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from statistics import median
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

SCHEMA: Literal["phoenix-orch.io/drill/v1"] = "phoenix-orch.io/drill/v1"
TREND = 12
"""Former drills that are compared with."""
SLOWER = 1.5
"""From so many times the usual on a drill is called slower."""
GROWTH = (2, 10)
"""How many times the data, for which the time is projected."""


class Kind(StrEnum):
    DAILY = "daily"
    """Are there backups, and does the newest open?"""
    WEEKLY = "weekly"
    """Copies drawn by lot are restored into scratch places."""
    MONTHLY = "monthly"
    """Everything from the bucket and the offline key alone, timed."""


class Phase(StrEnum):
    """The steps, in the order of a recovery."""

    FRESHNESS = "freshness"
    PRESENT = "present"
    VERIFY = "verify"
    LOCATE = "locate"
    DOWNLOAD = "download"
    DECRYPT = "decrypt"
    LOAD = "load"
    REPLICATE = "replicate"
    CONFIGURATION = "configuration"
    VOLUME = "volume"
    HEALTH = "health"


class Part(BaseModel):
    """A frozen piece of a report. Keys of a later Phoenix are left out."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class Step(Part):
    """One step of one component."""

    phase: Phase
    component: str = ""
    backup: str = ""
    tier: str = ""
    passed: bool
    seconds: float
    bytes: int = 0
    """That were moved."""
    detail: str = ""
    """What was found, or why it failed."""

    @property
    def what(self) -> str:
        return f"{self.phase.value} {self.component}".rstrip()


class Rpo(Part):
    """What would have been lost of a component, in seconds."""

    component: str
    achieved: float | None = None
    """At the moment of the drill; None: nothing can be recovered."""
    longest: float | None = None
    """At the worst moment that the newest backups tell of."""
    target: float


class Report(Part):
    """One drill."""

    schema_: Literal["phoenix-orch.io/drill/v1"] = Field(default=SCHEMA, alias="schema")
    id: str
    kind: Kind
    cluster: str
    namespace: str
    started: AwareDatetime
    ended: AwareDatetime
    by: str
    host: str
    phoenix: str
    seed: str = ""
    """By which the copies were drawn."""
    steps: tuple[Step, ...]
    rpo: tuple[Rpo, ...] = ()
    rto: float
    """Seconds of all steps."""
    rto_target: float | None = None
    """None: this kind recovers a part only, and has no target."""
    tools: dict[str, str] = Field(default_factory=dict)
    """Versions."""
    reasons: tuple[str, ...] = ()
    """Everything that speaks against it; empty: it passed."""
    passed: bool
    evidence: str = ""
    """SHA-256 of the rest, hexadecimal."""

    @property
    def phases(self) -> dict[Phase, float]:
        """Seconds by phase, in the order of a recovery."""
        return {
            phase: round(sum(step.seconds for step in self.steps if step.phase is phase), 3)
            for phase in Phase
            if any(step.phase is phase for step in self.steps)
        }

    @property
    def bytes(self) -> int:
        """The largest step of each component: the same bytes pass several."""
        most: dict[tuple[str, str], int] = {}
        for step in self.steps:
            place = (step.component, step.backup)
            most[place] = max(most.get(place, 0), step.bytes)
        return sum(most.values())


def against(steps: Sequence[Step], rpo: Sequence[Rpo], rto: float, rto_target: float | None) -> list[str]:
    """Every reason why a drill did not pass."""
    reasons = [f"{step.what}: {step.detail}" for step in steps if not step.passed]
    for one in rpo:
        if one.achieved is None:
            reasons.append(f"RPO of {one.component}: nothing can be recovered")
        elif one.achieved > one.target:
            reasons.append(
                f"RPO of {one.component}: {span(one.achieved)} would have been lost, "
                f"and {span(one.target)} is the target"
            )
    if rto_target is not None and rto > rto_target:
        reasons.append(f"RTO: recovery took {span(rto)}, and {span(rto_target)} is the target")
    if not steps:
        reasons.append("nothing was rehearsed")
    return reasons


LOADS = frozenset({Phase.LOAD, Phase.CONFIGURATION, Phase.VOLUME})
"""Steps in which a copy is put into a place that is thrown away, and compared."""


def recovered(report: Report) -> tuple[bool, Mapping[str, Step]]:
    """Whether what was recovered served, and the step that recovered each copy, by the id of its backup.

    Health is asked for only where every component was recovered: replicas followed, checks held, and all of
    it served together.
    """
    served = any(step.phase is Phase.HEALTH and step.passed for step in report.steps)
    return served, {step.backup: step for step in report.steps if step.phase in LOADS and step.passed}


def sealed(report: Report) -> Report:
    """With its evidence."""
    return report.model_copy(update={"evidence": evidence(report)})


def evidence(report: Report) -> str:
    content = report.model_dump(mode="json", by_alias=True, exclude={"evidence"})
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def projected(report: Report, times: float) -> float:
    """Seconds that it would take with so many times the data: steps that move bytes grow with them."""
    return sum(step.seconds * (times if step.bytes else 1.0) for step in report.steps)


def usual(former: Sequence[Report], report: Report) -> float | None:
    """The middle RTO of the former drills of this kind that passed; None where there were none."""
    times = [one.rto for one in former if one.kind is report.kind and one.passed and one.id != report.id]
    return median(times[:TREND]) if times else None


def trend(report: Report, former: Sequence[Report]) -> str:
    """In words. `former`: newest first, of any kind."""
    same = [one for one in former if one.kind is report.kind and one.id != report.id][:TREND]
    if not same:
        return "the first drill of its kind"
    failed = sum(not one.passed for one in same)
    middle = usual(former, report)
    if middle is None:
        return f"none of the last {len(same)} passed"
    of_them = f"{len(same) - failed} of the last {len(same)} passed, in {span(middle)} as a rule"
    if middle > 0 and report.rto > middle * SLOWER:
        return f"{of_them}; this one took {report.rto / middle:.1f} times as long"
    return of_them


def markdown(report: Report, former: Sequence[Report] = ()) -> str:
    """For people: a page of Markdown."""
    verdict = "PASS" if report.passed else "FAIL"
    lines = [
        f"# {report.kind.value.capitalize()} drill of {report.started:%Y-%m-%d %H:%M} UTC: {verdict}",
        "",
        *(f"- {_cell(reason)}" for reason in report.reasons),
        *([""] if report.reasons else []),
        "| what | achieved | target |",
        "|---|---|---|",
        *_achieved(report),
        "",
        "| step | component | backup | seconds | MB/s | result |",
        "|---|---|---|---:|---:|---|",
        *(_row(step) for step in report.steps),
        "",
        f"Trend: {trend(report, former)}.",
        *_growth(report),
        "",
        _signed(report),
        f"Evidence: SHA-256 `{report.evidence}`.",
    ]
    return "\n".join(lines) + "\n"


def _signed(report: Report) -> str:
    seed = f", seed {report.seed}" if report.seed else ""
    of = f"{report.cluster}/{report.namespace} by {report.by} on {report.host}"
    return f"Drill `{report.id}` of {of}, Phoenix {report.phoenix}{_tools(report.tools)}{seed}."


def _achieved(report: Report) -> list[str]:
    rows = []
    for one in report.rpo:
        achieved = "nothing can be recovered" if one.achieved is None else span(one.achieved)
        if one.longest is not None:
            achieved += f" (at worst {span(one.longest)})"
        rows.append(f"| RPO of {one.component} | {achieved} | {span(one.target)} |")
    target = "" if report.rto_target is None else span(report.rto_target)
    rows.append(f"| RTO | {span(report.rto)} | {target} |")
    return rows


def _row(step: Step) -> str:
    rate = f"{step.bytes / step.seconds / 1e6:.1f}" if step.bytes and step.seconds else ""
    result = f"{'ok' if step.passed else 'FAILED'}: {step.detail}"
    backup = f"{step.backup} ({step.tier})" if step.tier else step.backup
    cells = (step.phase.value, step.component, backup, f"{step.seconds:.2f}", rate, _cell(result))
    return f"| {' | '.join(cells)} |"


def _growth(report: Report) -> list[str]:
    if not report.passed or not report.bytes:
        return []
    told = ", ".join(
        f"{times} times the data would take {span(projected(report, times))}" for times in GROWTH
    )
    return [f"Moved: {report.bytes / 1e6:.1f} MB; {told}."]


def _tools(tools: Mapping[str, str]) -> str:
    return "".join(f", {name} {version}" for name, version in sorted(tools.items()))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def span(seconds: float) -> str:
    """A length of time as a person says it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"

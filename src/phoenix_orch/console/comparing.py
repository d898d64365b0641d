"""Two releases of one rollout side by side. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.observation import MetricEvidence
from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.orchestrator.wording import format_rounded
from phoenix_orch.rollout.status import Release


@dataclass(frozen=True, slots=True)
class Row:
    label: str
    one: str
    other: str

    @property
    def differs(self) -> bool:
        return self.one != self.other


def compared(ended: Sequence[Release], one: int, other: int) -> tuple[Row, ...]:
    """How they ended and what was measured last. Raises NotFound for a release that is not kept."""
    first, second = _numbered(ended, one), _numbered(ended, other)
    labels = (
        ("Version", lambda r: r.version or r.revision),
        ("Outcome", lambda r: r.outcome.value),
        ("Took", _took),
        ("Highest weight", lambda r: f"{r.weight} %"),
        ("Reason", lambda r: r.cause.reason if r.cause else r.reason),
        ("Verified", _verified),
        ("Requests judged", lambda r: explain.number(r.verdict.requests) if r.verdict else "-"),
        ("Evidence against it", lambda r: explain.odds(r.verdict.e) if r.verdict and r.verdict.e else "-"),
    )
    rows = [Row(label, read(first), read(second)) for label, read in labels]
    metrics = dict.fromkeys(item.metric for release in (first, second) for item in _evidence(release))
    for metric in metrics:
        name = explain.title(metric)
        rows.append(Row(name[:1].upper() + name[1:], _measured(first, metric), _measured(second, metric)))
    return tuple(rows)


def _numbered(ended: Sequence[Release], number: int) -> Release:
    for release in ended:
        if release.number == number:
            return release
    raise NotFound(f"release {number} is not kept", remedy="choose two of the history")


def _took(release: Release) -> str:
    return format_rounded(release.ended - release.started) if release.started else "-"


def _verified(release: Release) -> str:
    if release.verification is None:
        return "-"
    return "passed" if release.verification.ok else release.verification.failures


def _evidence(release: Release) -> tuple[MetricEvidence, ...]:
    if release.cause is not None and release.cause.evidence:
        return release.cause.evidence
    return release.verdict.evidence if release.verdict is not None else ()


def _measured(release: Release, metric: str) -> str:
    for item in _evidence(release):
        if item.metric == metric:
            return f"{explain.shown(metric, item.observed, item.bound)} of {explain.number(item.samples)}"
    return "-"

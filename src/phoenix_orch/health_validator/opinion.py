"""A verdict without its address: what a gate answers."""

from __future__ import annotations

from dataclasses import dataclass

from phoenix_orch.health_validator.observation import Category, MetricEvidence, Tier, VerdictKind


@dataclass(frozen=True, slots=True)
class Opinion:
    """What is thought of a release just now, and why."""

    kind: VerdictKind
    reason: str
    evidence: tuple[MetricEvidence, ...] = ()
    blame: tuple[str, ...] = ()
    category: Category = Category.PROGRESS
    tier: Tier | None = None

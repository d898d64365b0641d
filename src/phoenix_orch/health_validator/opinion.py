"""A verdict without its address: what a gate answers."""

from __future__ import annotations

from typing import NamedTuple

from phoenix_orch.health_validator.observation import Category, MetricEvidence, Tier, VerdictKind


class Opinion(NamedTuple):
    """What is thought of a release just now, and why."""

    kind: VerdictKind
    reason: str
    evidence: tuple[MetricEvidence, ...] = ()
    blame: tuple[str, ...] = ()
    category: Category = Category.PROGRESS
    tier: Tier | None = None

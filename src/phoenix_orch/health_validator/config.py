"""What a judge has to know about a rollout before it sees the first number. Pure."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from phoenix_orch.health_validator.rules import Rules, compile_rules
from phoenix_orch.kernel.ids import revision_hash
from phoenix_orch.rollout.spec import BusinessMetric, PlainValue, RolloutSpec, Statistical, Step

BAKE = "bake"

PATIENCE = 3
"""An observation longer than so many intervals is not continuous watching: its time does not count."""


class JudgeConfig(BaseModel):
    """The walk with its limits, and how the numbers are to be looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate: Literal["statistical", "literal"]
    steps: tuple[Step, ...]
    """All steps, and the bake as one more: the new revision at 100 % under the last step's limits."""
    window: timedelta
    interval: timedelta
    """How often observations are meant to come."""
    min_requests: int
    keep_rollback: bool
    """A rollback verdict stands until another release begins."""
    business: tuple[BusinessMetric, ...] = ()
    values: tuple[PlainValue, ...] = ()
    statistical: Statistical = Statistical()
    on_environment: Literal["hold", "rollback"] = "hold"
    on_relative_regression: Literal["rollback", "hold"] = "rollback"
    on_no_decision: Literal["pause", "rollback", "promote"] = "pause"
    early_advance: bool = False

    @classmethod
    def of(cls, spec: RolloutSpec, *, interval: timedelta | None = None) -> Self:
        """From what a person wrote. `interval`: what is really kept, where that is longer."""
        walk = spec.steps()
        bake = Step(
            index=len(walk), phase=BAKE, weight=100, duration=spec.policy.bake, limits=walk[-1].limits
        )
        kept = max(interval or spec.evidence.interval, spec.evidence.interval)
        return cls(
            gate=spec.policy.gate,
            steps=(*walk, bake),
            window=max(spec.evidence.window, kept),
            interval=kept,
            min_requests=spec.policy.min_requests,
            keep_rollback=spec.policy.on_failure == "rollback",
            business=spec.evidence.business,
            values=spec.evidence.values,
            statistical=spec.policy.statistical,
            on_environment=spec.policy.on_environment,
            on_relative_regression=spec.policy.on_relative_regression,
            on_no_decision=spec.policy.on_no_decision,
            early_advance=spec.policy.early_advance,
        )

    @cached_property
    def structure(self) -> str:
        """Differs when evidence gathered under the one configuration is none under the other."""
        return revision_hash(self.model_dump(mode="json"))

    def rules(self, index: int) -> Rules:
        """What the statistical gate asks of the step, or of the bake for an index beyond the walk."""
        rules = self._rules
        return rules[index] if index < len(rules) else rules[-1]

    @cached_property
    def _rules(self) -> tuple[Rules, ...]:
        return tuple(
            compile_rules(
                steps=self.steps,
                index=index,
                parameters=self.statistical,
                interval_ms=max(1, round(self.interval.total_seconds() * 1000)),
                window_ms=max(1, round(self.window.total_seconds() * 1000)),
                business=self.business,
                values=self.values,
                min_requests=self.min_requests,
                early_advance=self.early_advance,
            )
            for index in range(len(self.steps))
        )

    def step(self, index: int) -> Step:
        """The step, or the bake for an index beyond the walk."""
        return self.steps[min(index, len(self.steps) - 1)]

    def is_bake(self, step: Step) -> bool:
        return step.index == len(self.steps) - 1

    def fingerprint(self, step: Step) -> str:
        """Differs when numbers gathered for the step cannot be judged by this configuration."""
        return revision_hash(
            {
                "step": step.model_dump(mode="json"),
                "window": self.window.total_seconds(),
                "business": [metric.model_dump(mode="json") for metric in self.business],
            }
        )

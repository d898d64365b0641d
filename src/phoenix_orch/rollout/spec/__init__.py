"""What a person wants of a rollout: phases, limits, checks, policy, verification. Pure.

These models are the file format, the API format and the stored format at once. Lists and texts have an upper
bound: the API server of a cluster admits a rule about them only if it knows what it costs at most.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from phoenix_orch.rollout.spec.base import METRIC_PATTERN, MOST, NAME_PATTERN, Labels, Model, Name, distinct
from phoenix_orch.rollout.spec.checks import URL_LENGTH, Check, CommandCheck, HttpCheck
from phoenix_orch.rollout.spec.evidence import BusinessMetric, Evidence, PlainValue, Readings
from phoenix_orch.rollout.spec.phases import GUIDE_PHASES, Limits, Phase, Step, Walk
from phoenix_orch.rollout.spec.policy import CrashLoop, Policy
from phoenix_orch.rollout.spec.statistical import Onset, Shares, Statistical
from phoenix_orch.rollout.spec.verify import CriticalPath, LogPatterns, Verify

__all__ = [
    "GUIDE_PHASES",
    "METRIC_PATTERN",
    "MOST",
    "NAME_PATTERN",
    "URL_LENGTH",
    "BusinessMetric",
    "Check",
    "CommandCheck",
    "CrashLoop",
    "CriticalPath",
    "Evidence",
    "HttpCheck",
    "Labels",
    "Limits",
    "LogPatterns",
    "Model",
    "Name",
    "Onset",
    "Phase",
    "PlainValue",
    "Policy",
    "Readings",
    "RolloutSpec",
    "Shares",
    "Statistical",
    "Step",
    "Verify",
    "Walk",
    "distinct",
]


class RolloutSpec(Walk):
    """How a new revision of one workload is taken to all users."""

    evidence: Evidence = Evidence()
    """Where the numbers come from."""
    checks: Annotated[tuple[Check, ...], Field(max_length=MOST)] = ()
    """Custom health checks of the canary."""
    policy: Policy = Policy()
    """What to do when the answer is not a plain yes."""
    verify: Verify = Verify()
    """Verification after a promotion and after a rollback."""

    @model_validator(mode="after")
    def _checks_differ(self) -> Self:
        distinct((check.name for check in self.checks), "checks")
        return self

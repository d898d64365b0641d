"""What a Rollout may ask for and this version does not do in a cluster. Pure.

What is not looked at must not pass in silence (R1): such a Rollout gets no weight until it asks for less.
"""

from __future__ import annotations

from phoenix_orch.rollout.kubernetes_spec import KubernetesRolloutSpec
from phoenix_orch.workload.deployment.refusal import Refusal


def unsupported(spec: KubernetesRolloutSpec) -> Refusal | None:
    """The first thing that would not be done; None: all of it is."""
    for check in spec.checks:
        if check.job is not None:
            return _refusal(f"check {check.name} is a Job", "make it a request to a whole address")
    limits = [phase.limits for phase in spec.phases]
    if spec.evidence.source == "pods" and any(
        one.cpu is not None or one.memory is not None for one in limits
    ):
        return _refusal(
            "a phase limits CPU or memory, which pods do not tell of themselves", "set `source: prometheus`"
        )
    return None


def _refusal(what: str, remedy: str) -> Refusal:
    return Refusal("NotSupported", f"{what}, which this version does not do in a cluster", remedy)

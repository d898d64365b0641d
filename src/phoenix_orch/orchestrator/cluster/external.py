"""`policy.promotion: external`: another tool, such as one of Git, writes stable, and is waited for. Pure."""

from __future__ import annotations

from phoenix_orch.rollout.kubernetes_spec import KubernetesRolloutSpec
from phoenix_orch.rollout.status import State, Status
from phoenix_orch.workload.deployment.history import release_of
from phoenix_orch.workload.deployment.manifest import name_of
from phoenix_orch.workload.deployment.scene import Scene


def awaited(spec: KubernetesRolloutSpec, status: Status, scene: Scene) -> str:
    """What the promotion waits for that is not Phoenix's to do; empty: nothing.

    Where the templates are the same, and only a ConfigMap or Secret that they read has changed, there is
    nothing for the other tool to write.
    """
    if spec.policy.promotion != "external" or status.state is not State.PROMOTING:
        return ""
    canary = scene.canary_template()
    if canary is None or scene.stable_revision() == status.canary:
        return ""
    if scene.stable_template().runs.template == canary.runs.template:
        return ""
    return (
        f"waiting for Deployment {name_of(scene.stable)} to run revision {status.canary}"
        f" ({release_of(canary.manifest)})"
    )

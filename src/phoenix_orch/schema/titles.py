"""Where each model stands, in the words of the page that tells of it."""

from __future__ import annotations

FILE = {
    "PhoenixFile": "The file",
    "RouterSpec": "router",
    "ServiceSpec": "services.NAME",
    "Health": "services.NAME.health",
    "RouteSpec": "routes.NAME",
    "RolloutEntry": "rollouts.NAME",
    "Phase": "rollouts.NAME.phases[]",
    "Limits": "rollouts.NAME.phases[].limits",
    "Evidence": "rollouts.NAME.evidence",
    "BusinessMetric": "rollouts.NAME.evidence.business[]",
    "PlainValue": "rollouts.NAME.evidence.values[]",
    "Check": "rollouts.NAME.checks[]",
    "HttpCheck": "http of a check or a critical path",
    "CommandCheck": "rollouts.NAME.checks[].exec",
    "Policy": "rollouts.NAME.policy",
    "Statistical": "rollouts.NAME.policy.statistical",
    "Shares": "rollouts.NAME.policy.statistical.shares",
    "Onset": "rollouts.NAME.policy.statistical.onset",
    "CrashLoop": "rollouts.NAME.policy.crashLoop",
    "Verify": "rollouts.NAME.verify",
    "LogPatterns": "rollouts.NAME.verify.logs",
    "CriticalPath": "rollouts.NAME.verify.criticalPaths[]",
}
"""In `phoenix.yaml`."""

RESOURCE = {
    "KubernetesRolloutSpec": "spec",
    "WorkloadRef": "spec.workload",
    "CanaryRef": "spec.canary",
    "TrafficRef": "spec.traffic",
    "ClusterEvidence": "spec.evidence",
    "QueryValue": "spec.evidence.queries[]",
    "ClusterCheck": "spec.checks[]",
    "JobCheck": "spec.checks[].job",
    "ClusterPolicy": "spec.policy",
    "KubernetesStatus": "status",
    "Wanted": "status.wanted",
    "VerdictSummary": "status.verdict",
    "Condition": "status.conditions[]",
    **{
        model: "spec." + place.removeprefix("rollouts.NAME.")
        for model, place in FILE.items()
        if place.startswith("rollouts.NAME.")
    },
    "HttpCheck": FILE["HttpCheck"],
}
"""In the custom resource."""

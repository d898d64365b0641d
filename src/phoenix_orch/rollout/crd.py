"""The custom resource definition of `Rollout`, made from the models. Pure.

`phoenix crd` prints it, `k8s/crds/rollouts.phoenix-orch.io.yaml` is it.
"""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML

from phoenix_orch.health_validator.observation import MetricEvidence, Verdict
from phoenix_orch.rollout import crd_rules
from phoenix_orch.rollout.kubernetes_spec import KubernetesRolloutSpec
from phoenix_orch.rollout.kubernetes_status import KubernetesStatus
from phoenix_orch.rollout.spec import Onset, Shares, Statistical
from phoenix_orch.rollout.structural import Structural, unbounded

GROUP = "phoenix-orch.io"
VERSION = "v1alpha1"
KIND = "Rollout"
PLURAL = "rollouts"
NAME = f"{PLURAL}.{GROUP}"
PATH = f"k8s/crds/{NAME}.yaml"

COLUMNS = (
    ("State", "string", ".status.state", "Where the release stands.", 0),
    ("Phase", "string", ".status.phase", "Phase of the present step.", 0),
    ("Weight", "integer", ".status.weight", "Share of traffic that was asked for, in per cent.", 0),
    ("Seen", "integer", ".status.weightSeen", "Share that the data plane was seen to send.", 0),
    ("Verdict", "string", ".status.verdict.kind", "The health validator's last word.", 0),
    ("Stable", "string", ".status.stable", "Revision that is stable.", 0),
    ("Canary", "string", ".status.canary", "Revision that is released, or taken away.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "", 0),
    ("Reason", "string", ".status.message", "Why it is so.", 1),
)
"""Name, type, path, description, priority: 1 is shown by `-o wide` only."""


def definition() -> dict[str, Any]:
    """The whole CustomResourceDefinition as data."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME, "labels": {"app.kubernetes.io/part-of": "phoenix-orchestrator"}},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["phro"],
                "categories": ["all", "phoenix"],
            },
            "scope": "Namespaced",
            "versions": [_version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {
                "name": name,
                "type": kind,
                "jsonPath": path,
                **({"description": about} if about else {}),
                "priority": priority,
            }
            for name, kind, path, about, priority in COLUMNS
        ],
        "schema": {"openAPIV3Schema": schema()},
    }


def schema() -> dict[str, Any]:
    """The structural schema of one version."""
    text = {"type": "string"}
    return {
        "type": "object",
        "description": "How new revisions of one Deployment are taken to all users, and where that stands.",
        "required": ["spec"],
        "properties": {
            "apiVersion": text,
            "kind": text,
            "metadata": {"type": "object"},
            "spec": Structural(KubernetesRolloutSpec, undefaulted=(Statistical, Shares, Onset)).schema(),
            "status": status_schema(),
        },
        "x-kubernetes-validations": [rule.as_schema() for rule in crd_rules.ROOT],
    }


def status_schema() -> dict[str, Any]:
    """Types only, besides the key of the conditions."""
    found = unbounded(Structural(KubernetesStatus, opaque=(MetricEvidence, Verdict)).schema())
    conditions = found["properties"]["conditions"]
    conditions |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    conditions["items"]["required"] = ["type"]
    return found


def text() -> str:
    """The definition as YAML, the same on every machine."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(_unshared(definition()), stream)
    return stream.getvalue()


def _unshared(value: Any) -> Any:
    """Without parts that stand in two places, which YAML would write as anchor and alias."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_unshared(inner) for inner in value]
    return value

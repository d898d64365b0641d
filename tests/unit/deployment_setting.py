"""Objects of Kubernetes as the API server stores them, for tests of what is decided from them."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

from phoenix_orch.workload.deployment.revision import template_hash

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


def stamp(seconds: float = 0) -> str:
    """`seconds` after NOW, as the API server writes it."""
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def template(image: str = "shop:1", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"labels": labels or {"app": "shop"}},
        "spec": {"containers": [{"name": "shop", "image": image}], **spec},
    }


def deployment(
    name: str = "shop",
    *,
    replicas: int = 3,
    pods: dict[str, Any] | None = None,
    selector: dict[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    pods = pods or template()
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": "phoenix-orch",
            "uid": f"uid-of-{name}",
            "resourceVersion": "7",
            "generation": 1,
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": selector or deepcopy(pods["metadata"]["labels"])},
            "template": pods,
            **spec,
        },
    }


def canary(image: str = "shop:2", **spec: Any) -> dict[str, Any]:
    """A canary as a person writes it."""
    return deployment("shop-canary", replicas=1, pods=template(image, {"app": "shop-canary"}, **spec))


def service(name: str = "shop", selector: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "phoenix-orch"},
        "spec": {
            "selector": selector or {"app": "shop"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
            **spec,
        },
    }


def budget(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": labels}}}


def autoscaler(of: str = "shop", least: int = 2, most: int = 20) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{of}-hpa"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": of},
            "minReplicas": least,
            "maxReplicas": most,
        },
    }


def replica_set(
    owner: dict[str, Any],
    number: int,
    pods: dict[str, Any],
    *,
    cause: str = "",
    before: str = "",
    available: int = 0,
    **annotations: str,
) -> dict[str, Any]:
    """As the Deployment controller makes one."""
    named = deepcopy(pods)
    mark = template_hash(pods)
    named["metadata"]["labels"]["pod-template-hash"] = mark
    notes = {"deployment.kubernetes.io/revision": str(number), **annotations}
    notes |= {"kubernetes.io/change-cause": cause} if cause else {}
    notes |= {"deployment.kubernetes.io/revision-history": before} if before else {}
    return {
        "metadata": {
            "name": f"{owner['metadata']['name']}-{mark}",
            "annotations": notes,
            "creationTimestamp": stamp(number),
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": owner["metadata"]["name"],
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": {"template": named},
        "status": {"replicas": available, "readyReplicas": available, "availableReplicas": available},
    }


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, as the API server applies a merge patch."""
    if not isinstance(patch, dict):
        return patch
    found = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


def complete(found: dict[str, Any]) -> dict[str, Any]:
    """The same Deployment when its controller has done everything."""
    wanted = found["spec"]["replicas"]
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    status = {"observedGeneration": found["metadata"]["generation"], **dict.fromkeys(counts, wanted)}
    return {**found, "status": status}


def pod(name: str = "shop-1", *, status: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "uid": f"uid-of-{name}", "creationTimestamp": stamp(), **metadata},
        "spec": {"containers": [{"name": "shop", "ports": [{"containerPort": 8080}]}]},
        "status": {"phase": "Running", "startTime": stamp(1), **(status or {})},
    }


def ready(value: bool, since: float) -> dict[str, Any]:
    return {"type": "Ready", "status": str(value), "lastTransitionTime": stamp(since)}


def event(
    about: dict[str, Any], reason: str, note: str, *, count: int = 1, container: str = "shop"
) -> dict[str, Any]:
    return {
        "involvedObject": {
            "kind": "Pod",
            "uid": about["metadata"]["uid"],
            "fieldPath": f"spec.containers{{{container}}}",
        },
        "reason": reason,
        "message": note,
        "count": count,
        "lastTimestamp": stamp(60),
    }

"""Manifests of the demo's shop, as its users would write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from tests.cluster.node.images import SHOP, SHOP_PORT
from tests.cluster.node.router import GATEWAY

Manifest = dict[str, Any]
_CANARY = "nginx.ingress.kubernetes.io/canary"


def answers(port: int, host: str) -> str:
    """The version that a request by this name is answered by; without one the status."""
    answer = httpx.get(f"http://127.0.0.1:{port}/", headers={"Host": host}, trust_env=False, timeout=10)
    return str(answer.headers.get("X-Shop-Version", answer.status_code))


def deployment(
    namespace: str,
    name: str = "shop",
    *,
    image: str = f"{SHOP}:v1",
    replicas: int = 1,
    memory: str = "64Mi",
    environment: Mapping[str, str] | None = None,
) -> Manifest:
    """`memory`: the limit. `environment`: for instance SHOP_FAULT, instead of the image's."""
    labels = {"app": name}
    container = {
        "name": "shop",
        "image": image,
        "imagePullPolicy": "Never",
        "ports": [{"name": "http", "containerPort": SHOP_PORT}],
        "env": [{"name": key, "value": value} for key, value in (environment or {}).items()],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
        # routers go on sending for a moment, a longer one on a busy machine
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"memory": memory}},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True},
    }
    pod = {
        "terminationGracePeriodSeconds": 20,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def service(namespace: str, name: str = "shop", *, headless: bool = False) -> Manifest:
    """For the Deployment of the same name."""
    spec: Manifest = {
        "selector": {"app": name.removesuffix("-headless")},
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
    }
    if headless:
        spec["clusterIP"] = "None"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def ingress(namespace: str, name: str = "shop", *, host: str, weight: int | None = None) -> Manifest:
    """To the Service of the same name. `weight`: it is a canary with this share, in per cent."""
    annotations = {} if weight is None else {_CANARY: "true", f"{_CANARY}-weight": str(weight)}
    backend = {"service": {"name": name, "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": {"ingressClassName": "nginx", "rules": [{"host": host, "http": {"paths": paths}}]},
    }


def http_route(namespace: str, name: str = "shop", *, host: str, weights: Mapping[str, int]) -> Manifest:
    """`weights`: by Service."""
    backends = [{"name": backend, "port": 80, "weight": weight} for backend, weight in weights.items()]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "parentRefs": [GATEWAY],
            "hostnames": [host],
            "rules": [{"backendRefs": backends}],
        },
    }

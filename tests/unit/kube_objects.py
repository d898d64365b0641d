"""Ingresses, routes and endpoints as tests need them."""

from __future__ import annotations

from typing import Any

from phoenix_orch.kube.resources import ENDPOINT_SLICES, HTTP_ROUTES, INGRESSES, Object, Resource

SERVICES = Resource("", "v1", "services", "Service")


def path(service: str, where: str = "/", kind: str = "Prefix") -> dict[str, Any]:
    return {
        "path": where,
        "pathType": kind,
        "backend": {"service": {"name": service, "port": {"number": 80}}},
    }


def ingress(name: str, *rules: tuple[str, dict[str, Any]], **more: Any) -> Object:
    """`rules`: host and path; `more`: annotations, labels, and keys of the spec."""
    metadata = {
        "name": name,
        "annotations": more.pop("annotations", {}),
        "labels": more.pop("labels", {}),
    }
    listed = [{"host": host, "http": {"paths": [where]}} for host, where in rules]
    return {"metadata": metadata, "spec": {"ingressClassName": "nginx", "rules": listed, **more}}


def shop(name: str = "shop", **more: Any) -> Object:
    return ingress(name, (f"{name}.example.com", path(name)), **more)


def http_route(name: str, *rules: dict[str, Any], **metadata: Any) -> Object:
    return {
        "metadata": {"name": name, **metadata},
        "spec": {"parentRefs": [{"name": "gateway"}], "rules": list(rules)},
    }


def rule(*services: tuple[str, int | None], where: str = "/", **more: Any) -> dict[str, Any]:
    refs = [
        {"name": name, "port": 80, **({} if weight is None else {"weight": weight})}
        for name, weight in services
    ]
    return {"matches": [{"path": {"type": "PathPrefix", "value": where}}], "backendRefs": refs, **more}


def endpoints(service: str, *, ready: bool = True, address: str = "10.0.0.1", port: int = 8080) -> Object:
    return {
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready}}],
    }


__all__ = ["ENDPOINT_SLICES", "HTTP_ROUTES", "INGRESSES", "SERVICES"]

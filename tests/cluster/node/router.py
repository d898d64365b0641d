"""Traefik as the cluster's ingress controller and gateway: outside the cluster, in the node's network."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.cluster.kubectl import Manifest
from tests.cluster.node.settings import ADDRESS

from phoenix_orch.kernel.errors import Terminal

WEB_PORT, METRICS_PORT = 80, 8082
GATEWAY = {"name": "web", "namespace": "gateway"}
"""The parent that routes of every namespace may name."""
_THROTTLE = "500ms"
_ACCESS_FIELDS = ("RequestHost", "ServiceName", "DownstreamStatus")


def program() -> Path:
    """The one that came with the development environment, or the one on the PATH. Raises Terminal."""
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    found = shutil.which("traefik", path=places)
    if found is None:
        raise Terminal("Traefik is not installed", remedy="make setup")
    return Path(found)


def access_log(folder: Path) -> Path:
    """A line of JSON for every request, written when it has been answered.

    Metrics are no account: Traefik drops the series of a Service that is in no route any more."""
    return folder / "access.log"


def settings(folder: Path) -> dict[str, Any]:
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": {
            "web": {"address": f":{WEB_PORT}"},
            "metrics": {"address": f":{METRICS_PORT}"},
        },
        "ping": {"entryPoint": "metrics"},
        "metrics": {
            "prometheus": {"entryPoint": "metrics", "addRoutersLabels": True, "addServicesLabels": True}
        },
        "providers": {
            "kubernetesIngressNGINX": {
                "throttleDuration": _THROTTLE,
                "publishStatusAddress": [ADDRESS],
                "httpEntryPoint": "web",
            },
            "kubernetesGateway": {"throttleDuration": _THROTTLE, "statusAddress": {"ip": ADDRESS}},
        },
        "log": {"level": "INFO", "noColor": True},
        "accessLog": {
            "filePath": str(access_log(folder)),
            "format": "json",
            "fields": {"defaultMode": "drop", "names": dict.fromkeys(_ACCESS_FIELDS, "keep")},
        },
    }


def write(folder: Path) -> Path:
    path = folder / "traefik.yaml"
    path.write_text(json.dumps(settings(folder), indent=1), "utf-8")  # JSON is YAML
    return path


def objects() -> list[Manifest]:
    """The classes it serves, and a gateway with one listener for everybody's routes."""
    listener = {
        "name": "web",
        "protocol": "HTTP",
        "port": WEB_PORT,
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }
    return [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": "nginx"},
            "spec": {"controller": "k8s.io/ingress-nginx"},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": "traefik"},
            "spec": {"controllerName": "traefik.io/gateway-controller"},
        },
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": GATEWAY["namespace"]}},
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": GATEWAY,
            "spec": {"gatewayClassName": "traefik", "listeners": [listener]},
        },
    ]

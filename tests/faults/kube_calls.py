"""What Phoenix asks of the API server during a release, each call named by what it is for.

`orchestrator: patch ingress web-canary: weight 20`. The same call made again for the same purpose is one
purpose more at the most (`again`), so that a recording is the same from one run to the next.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.faults.kube_stage import NAME

from phoenix_orch.kube.resources import Object
from phoenix_orch.testing.api_faults import WRITES, Asked
from phoenix_orch.traffic.kube_record import ABORT, OURS, WEIGHT

_SINGLE = {
    "ingresses": "ingress",
    "httproutes": "httproute",
    "deployments": "deployment",
    "services": "service",
    "rollouts": "rollout",
    "leases": "lease",
    "events": "event",
}
AGAIN = " (again)"
"""Ends the purpose of a write that was made before."""
_NAMED = frozenset({"get", "update", "patch", "delete"})


class Purposes:
    """Names the calls of one release, as they come."""

    def __init__(self) -> None:
        self.state = "no state"
        """The last that the orchestrator asked to be written."""
        self._met: set[str] = set()

    def of(self, component: str, asked: Asked) -> str:
        """The purpose of the next call."""
        body = _read(asked.body)
        if component == "orchestrator" and asked.subresource == "status":
            self.state = _standing(body)
        who = component if asked.verb not in {"list", "watch"} else "each process"
        purpose = f"{who}: {asked.verb} {_object(asked, body)}{self._what_for(asked, body)}"
        if purpose in self._met and asked.verb in WRITES:
            purpose = f"{purpose}{AGAIN}"
        self._met.add(purpose)
        return purpose

    def _what_for(self, asked: Asked, body: Object) -> str:
        """Empty: there is no more to say."""
        if asked.resource == "leases" or asked.verb in {"list", "watch"}:
            return ""
        if asked.subresource == "status" or asked.verb == "get":
            return f", {self.state}"
        if asked.resource in {"ingresses", "httproutes"} and asked.verb == "patch":
            return f": {_weight(body)}"
        if asked.resource == "deployments" and asked.verb == "patch":
            return f": {_part(body)}"
        return ""


def _read(body: bytes) -> Object:
    found: Object = json.loads(body) if body else {}
    return found


def _object(asked: Asked, body: Object) -> str:
    if asked.verb not in _NAMED | {"create"}:
        return asked.resource
    if asked.resource == "events":
        return _SINGLE[asked.resource]  # each has a name of its own, and none decides anything
    name = asked.name or str(body.get("metadata", {}).get("name", ""))
    kind = (
        f"{_SINGLE.get(asked.resource, asked.resource)}{'/' if asked.subresource else ''}{asked.subresource}"
    )
    return kind if name == NAME and asked.resource == "rollouts" else f"{kind} {name}"


def _standing(body: Object) -> str:
    status: Mapping[str, Any] = body.get("status", {})
    state = str(status.get("state", "no state"))
    return f"{state} {status.get('step', 0) + 1}" if state == "Progressing" else state


def _weight(body: Object) -> str:
    metadata = body.get("metadata", {})
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if WEIGHT not in labels:
        return "record" if any(key.startswith(OURS) for key in annotations) else "other"
    if labels[WEIGHT] is None:
        return "given back"
    return f"weight {labels[WEIGHT]}{' and latch' if annotations.get(ABORT) else ''}"


def _part(body: Object) -> str:
    spec = body.get("spec") or {}
    if "template" in spec:
        return "template"
    if "replicas" in spec:
        return f"replicas {spec['replicas']}"
    return "marks"

"""Whether a workload serves with its newest template. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Any

from phoenix_orch.kube.resources import Object


class Progress(Enum):
    """What the status of a workload says."""

    DONE = "serves"
    GOING = "is not rolled out yet"
    FAILED = "makes no progress: its deadline has passed"

    @property
    def said(self) -> str:
        return self.value


def progress(found: Object, kind: str) -> Progress:
    """Of a Deployment, StatefulSet or DaemonSet, as `kubectl rollout status` sees it."""
    metadata, spec, status = found["metadata"], found.get("spec") or {}, found.get("status") or {}
    if int(status.get("observedGeneration") or 0) < int(metadata.get("generation") or 0):
        return Progress.GOING
    if kind == "Deployment" and _exceeded(status):
        return Progress.FAILED
    return Progress.DONE if _SERVES[kind](spec, status) else Progress.GOING


def _exceeded(status: Object) -> bool:
    return any(
        one.get("type") == "Progressing" and one.get("reason") == "ProgressDeadlineExceeded"
        for one in status.get("conditions") or ()
    )


def _number(status: Object, name: str) -> int:
    return int(status.get(name) or 0)


def _deployment(spec: Object, status: Object) -> bool:
    wanted = 1 if spec.get("replicas") is None else int(spec["replicas"])
    updated = _number(status, "updatedReplicas")
    return updated >= wanted and _number(status, "replicas") <= updated <= _number(
        status, "availableReplicas"
    )


def _stateful_set(spec: Object, status: Object) -> bool:
    wanted = 1 if spec.get("replicas") is None else int(spec["replicas"])
    if (spec.get("updateStrategy") or {}).get("type") == "OnDelete":
        return _number(status, "readyReplicas") >= wanted
    return status.get("currentRevision") == status.get("updateRevision") and (
        _number(status, "readyReplicas") >= wanted
    )


def _daemon_set(spec: Object, status: Object) -> bool:
    wanted = _number(status, "desiredNumberScheduled")
    updated: Any = _number(status, "updatedNumberScheduled")
    if (spec.get("updateStrategy") or {}).get("type") == "OnDelete":
        updated = wanted
    return bool(updated >= wanted and _number(status, "numberAvailable") >= wanted)


_SERVES = {"Deployment": _deployment, "StatefulSet": _stateful_set, "DaemonSet": _daemon_set}

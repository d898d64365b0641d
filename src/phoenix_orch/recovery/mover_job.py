"""The Job that copies what a snapshot holds into the storage of backups, away from the cluster. Pure.

It runs beside Phoenix, with what the orchestrator's own pod was given: the same image, file, keys and
storage. So nothing is to be configured twice, and no key comes to the namespace of the application.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from datetime import timedelta

from phoenix_orch.kernel.errors import BadState
from phoenix_orch.kube.resources import Object

MOUNT = "/state"
ORDER = "PHOENIX_COPY"
"""Environment variable with what is to be copied; JSON."""
COPYING = "phoenix-orch.io/copying"
"""Label of what a copy makes: a hash of whose backups it copies. By it alone: no Deployment or Service takes
the pod for one of its own."""
PROGRAM = ("python3", "-m", "phoenix_orch.orchestrator.cluster.copying")
_STATE, _TOKENS = "phoenix-copied-state", "/var/run/secrets/kubernetes.io/serviceaccount"
_KEPT = ("image", "imagePullPolicy", "envFrom", "resources")
"""Of the orchestrator's container."""
_POD_KEPT = ("imagePullSecrets", "tolerations", "priorityClassName", "runtimeClassName", "hostAliases")
_FILE = re.compile(r"(?:--file|-f)(?:=(?P<path>.+))?")


def job(
    pod: Object, claim: str, *, labels: Mapping[str, str], order: str, user: int, timeout: timedelta
) -> Object:
    """`pod`: one of the orchestrator's. `claim`: made of the snapshot. `order`: what `PROGRAM` is told.
    `user`: as whom it runs, user and group: who may read the files; their owners stay as they are.

    Raises BadState where the pod has no container of Phoenix.
    """
    spec, container = pod["spec"], _container(pod)
    mounts = [one for one in container.get("volumeMounts") or () if one["mountPath"] != _TOKENS]
    used = {one["name"] for one in mounts}
    security = {**(spec.get("securityContext") or {}), "runAsUser": user, "runAsGroup": user}
    for changing in ("fsGroup", "fsGroupChangePolicy", "supplementalGroups"):
        security.pop(changing, None)  # kubelet would give the files to that group
    copying = {
        **{key: container[key] for key in _KEPT if key in container},
        "name": "copy",
        "command": list(PROGRAM),
        "env": [*_settings(container), {"name": ORDER, "value": order}],
        "volumeMounts": [*mounts, {"name": _STATE, "mountPath": MOUNT, "readOnly": True}],
        "securityContext": container.get("securityContext") or {},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    volumes = [one for one in spec.get("volumes") or () if one["name"] in used]
    template = {
        **{key: spec[key] for key in _POD_KEPT if key in spec},
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": security,
        "containers": [copying],
        "volumes": [*volumes, {"name": _STATE, "persistentVolumeClaim": {"claimName": claim}}],
    }
    return {
        "metadata": {},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(timeout.total_seconds()),
            "template": {"metadata": {"labels": dict(labels)}, "spec": template},
        },
    }


def file_of(pod: Object) -> str:
    """The phoenix.yaml that the orchestrator was started with. Raises BadState."""
    words = [*(_container(pod).get("command") or ()), *(_container(pod).get("args") or ())]
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
        found = _FILE.fullmatch(word)
        if found is not None:
            return found["path"] or following
    raise BadState(
        f"the pod {pod['metadata']['name']} was started without --file",
        remedy="start the orchestrator with its phoenix.yaml: copies are made with the same",
    )


def _container(pod: Object) -> Object:
    containers: list[Object] = pod["spec"]["containers"]
    for one in containers:
        if one["name"] == "phoenix":
            return one
    names = ", ".join(str(one["name"]) for one in containers)
    raise BadState(
        f"the pod {pod['metadata']['name']} has no container phoenix, only {names}",
        remedy="name the container of Phoenix so: its copies run with what it was given",
    )


def _settings(container: Object) -> list[Object]:
    """Those that do not depend on which pod it is."""
    return [one for one in container.get("env") or () if "fieldRef" not in (one.get("valueFrom") or {})]

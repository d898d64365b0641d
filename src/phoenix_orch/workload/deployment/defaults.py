"""A pod template without what the API server fills in by itself, so that it compares by what it says.

Source: k8s.io/kubernetes/pkg/apis/core/v1/defaults.go. A field that equals its default means the same as
a field that is missing; a newer server that fills in more adds nothing that these templates say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.manifest import Manifest, items, mapping

_POD = {
    "restartPolicy": "Always",
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "terminationGracePeriodSeconds": 30,
    "securityContext": {},
    "enableServiceLinks": True,
    "hostNetwork": False,
    "hostPID": False,
    "hostIPC": False,
    "preemptionPolicy": "PreemptLowerPriority",
    "priority": 0,
}
_CONTAINER = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "resources": {},
    "securityContext": {},
    "stdin": False,
    "stdinOnce": False,
    "tty": False,
    "workingDir": "",
}
_PROBE = {
    "initialDelaySeconds": 0,
    "timeoutSeconds": 1,
    "periodSeconds": 10,
    "successThreshold": 1,
    "failureThreshold": 3,
}
_HTTP = {"scheme": "HTTP", "path": "/", "host": ""}
_MODE = 0o644
_FIELD = {"apiVersion": "v1"}
_NOT_RUN = frozenset({marks.RESTARTED_AT, marks.LAST_APPLIED, marks.POD_TEMPLATE_HASH})
"""A restart runs the same again, and the hash is the ReplicaSet controller's."""
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,3}|)")
_SUFFIX = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}


def quantity(value: Any) -> str:
    """A quantity in one spelling: `1000m`, `1` and `1e0` are the same. What is none stays as it is."""
    number = amount(value)
    return str(value) if number is None else str(number)


def amount(value: Any) -> Fraction | None:
    """The number that a quantity means. None: it is no quantity."""
    found = _QUANTITY.fullmatch(str(value))
    if found is None:
        return None
    number, suffix = found.groups()
    if suffix in _SUFFIX:
        return Fraction(number) * _SUFFIX[suffix]
    return Fraction(number) * Fraction(10) ** int(suffix[1:])


def what_runs(template: Manifest) -> dict[str, Any]:
    """The template without defaults, without Phoenix's own marks and without what runs nothing."""
    metadata = mapping(template, "metadata")
    found = {
        part: {key: value for key, value in mapping(metadata, part).items() if _runs(key)}
        for part in ("labels", "annotations")
    }
    spec = mapping(template, "spec")
    return {"metadata": {key: value for key, value in found.items() if value}, "spec": _pod(spec)}


def _runs(key: str) -> bool:
    return key not in _NOT_RUN and not marks.is_ours(key)


def _without(tree: Manifest, defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in tree.items()
        if value is not None and not (key in defaults and value == defaults[key])
    }


def _pod(spec: Manifest) -> dict[str, Any]:
    pod = _without(spec, _POD)
    account = pod.pop("serviceAccount", None) or None
    if pod.get("serviceAccountName", account) is not None:
        pod["serviceAccountName"] = pod.get("serviceAccountName", account)
    host = bool(spec.get("hostNetwork"))
    for part in ("initContainers", "containers"):
        if part in pod:
            pod[part] = [_container(one, host=host) for one in items(spec, part)]
    if "volumes" in pod:
        pod["volumes"] = [_volume(one) for one in items(spec, "volumes")]
    for part in ("nodeSelector", "tolerations", "initContainers", "volumes", "imagePullSecrets", "overhead"):
        if part in pod and not pod[part]:
            del pod[part]
    return pod


def _container(container: Manifest, *, host: bool) -> dict[str, Any]:
    found = _without(container, _CONTAINER)
    if found.get("imagePullPolicy") == _pull_policy(str(found.get("image", ""))):
        del found["imagePullPolicy"]
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe in found:
            found[probe] = _handler(_without(found[probe], _PROBE))
    if "lifecycle" in found:
        found["lifecycle"] = {key: _handler(value) for key, value in mapping(found, "lifecycle").items()}
    if "ports" in found:
        found["ports"] = [_port(one, host=host) for one in items(found, "ports")]
    if "env" in found:
        found["env"] = [_variable(one) for one in items(found, "env")]
    if "volumeMounts" in found:
        found["volumeMounts"] = [
            _without(one, {"readOnly": False, "subPath": ""}) for one in items(found, "volumeMounts")
        ]
    if "resources" in found:
        found["resources"] = _resources(found["resources"])
    for part in ("ports", "env", "envFrom", "volumeMounts", "args", "command", "resources"):
        if part in found and not found[part]:
            del found[part]
    return found


def _pull_policy(image: str) -> str:
    last = image.rpartition("/")[2]
    if "@" in last:
        return "IfNotPresent"
    tag = last.partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def _handler(handler: Manifest) -> dict[str, Any]:
    found = {key: value for key, value in handler.items() if value is not None}
    if isinstance(found.get("httpGet"), Mapping):
        found["httpGet"] = _without(found["httpGet"], _HTTP)
    if isinstance(found.get("grpc"), Mapping):
        found["grpc"] = _without(found["grpc"], {"service": ""})
    return found


def _port(port: Manifest, *, host: bool) -> dict[str, Any]:
    found = _without(port, {"protocol": "TCP", "hostPort": 0})
    if host and found.get("hostPort") == found.get("containerPort"):
        found.pop("hostPort", None)
    return found


def _variable(variable: Manifest) -> dict[str, Any]:
    found = _without(variable, {"value": ""})
    if isinstance(found.get("valueFrom"), Mapping):
        found["valueFrom"] = _projection(found["valueFrom"])
    return found


def _projection(source: Manifest) -> dict[str, Any]:
    found = dict(source)
    if isinstance(found.get("fieldRef"), Mapping):
        found["fieldRef"] = _without(found["fieldRef"], _FIELD)
    if isinstance(found.get("resourceFieldRef"), Mapping):
        reference = dict(found["resourceFieldRef"])
        if quantity(reference.get("divisor", "0")) in ("0", "1"):
            reference.pop("divisor", None)
        found["resourceFieldRef"] = reference
    return found


def _resources(resources: Manifest) -> dict[str, Any]:
    """A request that is not named is as large as the limit."""
    limits = {key: quantity(value) for key, value in mapping(resources, "limits").items()}
    requests = {key: quantity(value) for key, value in mapping(resources, "requests").items()}
    found = {key: value for key, value in resources.items() if key not in ("limits", "requests") and value}
    if limits:
        found["limits"] = limits
    if limits or requests:
        found["requests"] = limits | requests
    return found


def _volume(volume: Manifest) -> dict[str, Any]:
    found = {key: value for key, value in volume.items() if value is not None}
    for kind in ("configMap", "secret", "projected", "downwardAPI"):
        if isinstance(found.get(kind), Mapping):
            found[kind] = _without(found[kind], {"defaultMode": _MODE})
            for part in ("items", "sources"):
                if part in found[kind]:
                    found[kind][part] = [_source(one) for one in items(found[kind], part)]
    if isinstance(found.get("hostPath"), Mapping):
        found["hostPath"] = _without(found["hostPath"], {"type": ""})
    if isinstance(found.get("emptyDir"), Mapping):
        directory = _without(found["emptyDir"], {"medium": ""})
        if "sizeLimit" in directory:
            directory["sizeLimit"] = quantity(directory["sizeLimit"])
        found["emptyDir"] = directory
    if list(found) == ["name"]:
        found["emptyDir"] = {}
    return found


def _source(source: Manifest) -> dict[str, Any]:
    found = _projection(source)
    if isinstance(found.get("serviceAccountToken"), Mapping):
        found["serviceAccountToken"] = _without(found["serviceAccountToken"], {"expirationSeconds": 3600})
    if isinstance(found.get("downwardAPI"), Mapping):
        entries = [_projection(one) for one in items(found, "downwardAPI", "items")]
        found["downwardAPI"] = {**found["downwardAPI"], "items": entries}
    return found

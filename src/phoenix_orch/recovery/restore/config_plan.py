"""What has to be done so that a cluster has the configuration that a backup has. Pure.

What the backup has and the cluster has not is made; what differs is changed; what cannot be changed, an
immutable Secret, is deleted and made again. What only the cluster has is left alone and told of: somebody may
have made it since. What others refer to comes first. Workloads that read a ConfigMap or Secret which changed
are rolled afterwards, since a pod reads its environment only once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kube.resources import Object, Resource
from phoenix_orch.recovery.sources.config_objects import (
    KINDS,
    PENDING,
    SECRET_PARTS,
    left_out,
    normalised,
    template_path,
)

KIND_OF = {resource.kind: resource for resource in KINDS}
ROLLED = ("Deployment", "StatefulSet", "DaemonSet")
"""Workloads whose pods are replaced to read their configuration; a CronJob's next pod reads it anyway."""
_HASH = 12


class Act(StrEnum):
    CREATE = "create"
    CHANGE = "change"
    REPLACE = "replace"
    """Delete and make again: what differs cannot be changed."""
    LEAVE = "leave"
    """Only in the cluster, and none of ours to touch."""


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """What names an object of a cluster."""

    namespace: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Step:
    """One object, and what is to be done to it."""

    act: Act
    name: Name
    wished: Object | None
    """The whole object; with values of Secrets. None for what is left alone."""
    fields: tuple[str, ...] = ()
    """What differs, as paths; never values."""
    uid: str = ""
    """Of the object that is there."""
    version: str = ""
    """Of its specification, as the API server counts."""
    extra: tuple[str, ...] = ()
    """Those of `fields` that are there and not wished for."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps in their order, and the workloads that are rolled after them."""

    steps: tuple[Step, ...]
    rolled: tuple[Name, ...]
    unchanged: int
    source: str = ""
    """The commit that is put back."""

    @property
    def acts(self) -> tuple[Step, ...]:
        """The steps that change something."""
        return tuple(step for step in self.steps if step.act is not Act.LEAVE)

    @property
    def hash(self) -> str:
        """Another one when another thing would be done: what a person confirms. No value is a part of it."""
        digest = hashlib.sha256(f"{self.source}\n".encode())
        for step in self.acts:
            told = (step.act, step.name, step.uid, step.version, *step.fields)
            digest.update(f"{' '.join(map(str, told))}\n".encode())
        digest.update(" ".join(map(str, self.rolled)).encode())
        return digest.hexdigest()[:_HASH]


def name_of(document: Mapping[str, Any], namespace: str = "") -> Name:
    """Raises Invalid for what is no object."""
    try:
        metadata = document["metadata"]
        return Name(metadata.get("namespace") or namespace, document["kind"], metadata["name"])
    except (KeyError, TypeError, AttributeError):
        raise Invalid("a file of the backup is no object of Kubernetes") from None


def resource_of(document: Mapping[str, Any]) -> Resource:
    """Where the API server keeps it. Raises Invalid for a kind that is not known."""
    found = KIND_OF.get(str(document.get("kind")))
    if found is None or found.api_version != document.get("apiVersion"):
        raise Invalid(
            f"{document.get('kind')} of {document.get('apiVersion')} is no kind that is restored",
            remedy="apply its file from a clone of the repository",
        )
    return found


def plan(wished: Iterable[Object], live: Iterable[Object], *, source: str = "") -> Plan:
    """`wished`: objects of a backup, with values. `live`: those of the cluster, as the API server gives them,
    of all kinds and namespaces that are wished for. `source`: the commit."""
    there = {name_of(one): one for one in live}
    scaled = set(_scaled(there))
    steps, names, unchanged = list[Step](), set[Name](), 0
    for one in sorted(wished, key=_order):
        name = name_of(one)
        names.add(name)
        step = _step(name, _unscaled(one) if name in scaled else one, there.get(name))
        if step is None:
            unchanged += 1
        else:
            steps.append(step)
    left = (
        Step(Act.LEAVE, name, None)
        for name, one in sorted(there.items())
        if name not in names and not left_out(one, name.kind)
    )
    acts = tuple(steps)
    return Plan((*acts, *left), tuple(_rolled(acts, there)), unchanged, source)


def _order(one: Object) -> tuple[int, str, str]:
    resource = resource_of(one)
    name = name_of(one)
    return KINDS.index(resource), name.namespace, name.name


def _step(name: Name, wished: Object, found: Object | None) -> Step | None:
    if found is None:
        return Step(Act.CREATE, name, wished)
    now = normalised(found, resource_of(wished))
    fields = tuple(differing(wished, now))
    if not fields:
        return None
    act = Act.REPLACE if _fixed(name.kind, wished, now, fields) else Act.CHANGE
    metadata = found["metadata"]
    version = metadata.get("generation") or metadata.get("resourceVersion") or ""
    extra = tuple(field for field in fields if _extra(field, wished))
    return Step(act, name, wished, fields, str(metadata.get("uid", "")), str(version), extra)


def _extra(field: str, wished: Object) -> bool:
    part, _, name = field.partition(".")
    return part in (*SECRET_PARTS, "binaryData") and (not name or name not in (wished.get(part) or {}))


def _scaled(there: Mapping[Name, Object]) -> Iterator[Name]:
    """Workloads whose size an autoscaler of the cluster says."""
    for name, one in there.items():
        if name.kind == "HorizontalPodAutoscaler":
            target = (one.get("spec") or {}).get("scaleTargetRef") or {}
            yield Name(name.namespace, str(target.get("kind")), str(target.get("name")))


def _unscaled(one: Object) -> Object:
    return {
        **one,
        "spec": {part: value for part, value in (one.get("spec") or {}).items() if part != "replicas"},
    }


def _fixed(kind: str, wished: Object, now: Object, fields: Sequence[str]) -> bool:
    """What differs is something that the API server lets nobody change."""
    if kind in ("ConfigMap", "Secret") and now.get("immutable"):
        parts = (*SECRET_PARTS, "binaryData", "immutable")
        return any(field.split(".", 1)[0] in parts for field in fields)
    if kind == "Secret":
        return wished.get("type") != now.get("type")
    if kind in ("Deployment", "DaemonSet"):
        return any(field.startswith("spec.selector") for field in fields)
    return False


def differing(wished: Any, now: Any, path: str = "") -> Iterator[str]:
    """Paths of what is wished for and is not there, or is otherwise; in lists as a whole.

    What only the live object has is a difference where somebody may have added it: in data of ConfigMaps and
    Secrets. Elsewhere it is a default of the API server, or another manager's.
    """
    if isinstance(wished, Mapping) and isinstance(now, Mapping):
        for name in sorted(wished):
            below = f"{path}.{name}" if path else str(name)
            if name not in now:
                if wished[name] not in ({}, [], None):
                    yield below
            else:
                yield from differing(wished[name], now[name], below)
        if path in (*SECRET_PARTS, "binaryData"):
            yield from (f"{path}.{name}" for name in sorted(now.keys() - wished.keys()))
        elif not path:
            yield from (
                part for part in (*SECRET_PARTS, "binaryData") if now.get(part) and not wished.get(part)
            )
    elif wished != now:
        yield path


# -- who reads what --------------------------------------------------------------------------------


def reads(workload: Object) -> set[tuple[str, str]]:
    """Kinds and names of the ConfigMaps and Secrets that the pods of a workload are given."""
    at: Any = workload
    for part in template_path(workload["kind"]):
        at = (at or {}).get(part)
    spec = (at or {}).get("spec") or {}
    found = set()
    for volume in spec.get("volumes") or ():
        found |= set(_of_volume(volume))
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        for source in container.get("envFrom") or ():
            found |= set(_referred(source, "configMapRef", "secretRef"))
        for variable in container.get("env") or ():
            found |= set(_referred(variable.get("valueFrom") or {}, "configMapKeyRef", "secretKeyRef"))
    return found


def _of_volume(volume: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if name := (volume.get("configMap") or {}).get("name"):
        yield "ConfigMap", name
    if name := (volume.get("secret") or {}).get("secretName"):
        yield "Secret", name
    for source in (volume.get("projected") or {}).get("sources") or ():
        yield from _referred(source, "configMap", "secret")


def _referred(source: Mapping[str, Any], config_map: str, secret: str) -> Iterator[tuple[str, str]]:
    for kind, field in (("ConfigMap", config_map), ("Secret", secret)):
        if name := (source.get(field) or {}).get("name"):
            yield kind, name


def _rolled(steps: Sequence[Step], there: Mapping[Name, Object]) -> list[Name]:
    """The workloads that stand, read what changes, and are not replaced by the change itself."""
    changed = {(step.name.namespace, step.name.kind, step.name.name) for step in steps}
    rolls_itself = {
        step.name for step in steps if any(field.startswith("spec.template") for field in step.fields)
    } | {step.name for step in steps if step.act is not Act.CHANGE}
    wished = {step.name: step.wished for step in steps if step.wished is not None}
    found = []
    for name, one in sorted(there.items()):
        if name.kind not in ROLLED:
            continue
        if PENDING in (one["metadata"].get("annotations") or {}):
            found.append(name)  # a restore that died has changed what it reads
            continue
        if name in rolls_itself:
            continue
        now = {**(wished.get(name) or one), "kind": name.kind}
        if any((name.namespace, kind, of) in changed for kind, of in reads(now)):
            found.append(name)
    return found

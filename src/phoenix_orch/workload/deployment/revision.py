"""The revision of a Deployment: a hash of what its pods run, with the configuration they read."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from phoenix_orch.kernel.ids import revision_hash
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.defaults import what_runs
from phoenix_orch.workload.deployment.manifest import Manifest, annotation, items, mapping


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """A ConfigMap or Secret that pods read."""

    kind: str
    """`ConfigMap` or `Secret`."""
    name: str


@dataclass(frozen=True, slots=True)
class _Read:
    reference: Reference
    key: str | None
    """None: all of it."""


Contents = Mapping[Reference, Manifest | None]
"""The objects that are referred to. None: there is no such object."""


@dataclass(frozen=True, slots=True)
class Revision:
    """What a pod template runs, as three hashes of ten hexadecimal digits."""

    template: str
    """Of the template alone."""
    config: str
    """Of what it reads from ConfigMaps and Secrets."""
    id: str
    """Of both: the revision."""


def references(template: Manifest) -> frozenset[Reference]:
    """What `revision` needs the contents of. Pull secrets are not among them: they run nothing."""
    return frozenset(read.reference for read in _reads(template))


def template_hash(template: Manifest) -> str:
    """The same for a manifest as a person wrote it and as the API server stored it."""
    return revision_hash(what_runs(template))


def revision(template: Manifest, contents: Contents) -> Revision:
    """The revision that pods started now from `template` would run.

    Of every key that is read only a hash goes in; keys that nobody reads change nothing. An object or a
    key that is missing is a content of its own, optional or not: when it comes, other pods run.
    Raises KeyError when `contents` lacks one of `references(template)`.
    """
    config: dict[str, object] = {}
    for read in _reads(template):
        where = f"{read.reference.kind}/{read.reference.name}"
        found = _values(read.reference.kind, contents[read.reference])
        if found is None:
            config[where] = "missing"
        elif read.key is not None:
            config[f"{where}/{read.key}"] = found.get(read.key, "missing")
        else:
            config.update({f"{where}/{key}": value for key, value in found.items()})
    runs = what_runs(template)
    return Revision(
        template=revision_hash(runs),
        config=revision_hash(config),
        id=revision_hash({"template": runs, "config": config}),
    )


def digested(kind: str, found: Manifest) -> dict[str, Any]:
    """A ConfigMap or Secret of which nothing is kept but what tells it apart and a hash of each value."""
    metadata = mapping(found, "metadata")
    kept = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion") if key in metadata}
    return {"metadata": kept, "digests": _values(kind, found)}


def running(template: Manifest, contents: Contents, of: Manifest | None = None) -> str:
    """The revision that the pods of `template` were started with, as far as it was written down.

    What was promoted says so on its template; what was there before on its Deployment or ReplicaSet,
    `of`. Either counts as long as nobody changed the template since. A ConfigMap that is edited later
    makes another revision of what would run, not of what runs.
    """
    now = revision(template, contents)
    for said in (template, of or {}):
        if annotation(said, marks.TEMPLATE) == now.template and (found := annotation(said, marks.REVISION)):
            return found
    return now.id


def adopted(deployment: Manifest, contents: Contents) -> dict[str, str]:
    """Annotations for a Deployment that say what its pods run; empty where that is known."""
    template = deployment["spec"]["template"]
    if template_hash(template) in (annotation(one, marks.TEMPLATE) for one in (template, deployment)):
        return {}
    found = revision(template, contents)
    return {marks.REVISION: found.id, marks.TEMPLATE: found.template}


def marked(template: Manifest, found: Revision) -> dict[str, Any]:
    """The template with the revision written on it, so that a change of configuration alone rolls pods."""
    metadata = dict(mapping(template, "metadata"))
    said = {marks.REVISION: found.id, marks.TEMPLATE: found.template}
    return {
        **template,
        "metadata": {**metadata, "annotations": {**mapping(metadata, "annotations"), **said}},
    }


def _reads(template: Manifest) -> Iterator[_Read]:
    spec = mapping(template, "spec")
    for part in ("initContainers", "containers"):
        for container in items(spec, part):
            for source in items(container, "envFrom"):
                for kind, field in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                    if field in source:
                        yield _Read(Reference(kind, str(source[field].get("name", ""))), None)
            for variable in items(container, "env"):
                value = mapping(variable, "valueFrom")
                for kind, field in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
                    if field in value:
                        chosen = value[field]
                        yield _Read(Reference(kind, str(chosen.get("name", ""))), str(chosen.get("key", "")))
    for volume in items(spec, "volumes"):
        yield from _mounted(volume, "secretName")
        for source in items(volume, "projected", "sources"):
            yield from _mounted(source, "name")


def _mounted(source: Manifest, secret_name: str) -> Iterator[_Read]:
    for kind, field, name in (("ConfigMap", "configMap", "name"), ("Secret", "secret", secret_name)):
        if field not in source:
            continue
        reference = Reference(kind, str(source[field].get(name, "")))
        chosen = items(source[field], "items")
        if not chosen:
            yield _Read(reference, None)
        for item in chosen:
            yield _Read(reference, str(item.get("key", "")))


def _values(kind: str, found: Manifest | None) -> dict[str, str] | None:
    """The hash of each value; None: there is no object."""
    if found is None or "digests" in found:
        return None if found is None else dict(found["digests"])
    encoded = mapping(found, "data" if kind == "Secret" else "binaryData")
    hashes = {key: _digest(_decoded(str(value))) for key, value in encoded.items()}
    if kind == "ConfigMap":
        hashes |= {key: _digest(str(value).encode()) for key, value in mapping(found, "data").items()}
    return hashes


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        return value.encode()


def _digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()

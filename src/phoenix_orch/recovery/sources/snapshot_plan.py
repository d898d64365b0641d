"""Snapshots of volumes in a cluster (snapshot.storage.k8s.io/v1): what to write, and what was found. Pure.

A snapshot is two objects: a VolumeSnapshot in the namespace and a cluster-wide VolumeSnapshotContent, which
the snapshot controller makes and whose `deletionPolicy` says whether the storage forgets with the objects.
While it is a backup that policy is Retain: the namespace may be lost, and the snapshot is not.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kube.resources import Object, Resource
from phoenix_orch.recovery.errors import Corrupted

GROUP = "snapshot.storage.k8s.io"
SNAPSHOTS = Resource(GROUP, "v1", "volumesnapshots", "VolumeSnapshot")
CONTENTS = Resource(GROUP, "v1", "volumesnapshotcontents", "VolumeSnapshotContent", namespaced=False)
CLASSES = Resource(GROUP, "v1", "volumesnapshotclasses", "VolumeSnapshotClass", namespaced=False)
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUMES = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)

DEFAULT_CLASS = f"{GROUP}/is-default-class"
OURS = "phoenix-orch.io/backup"
"""Label of what belongs to a backup: its id."""
SCOPE = "phoenix-orch.io/backup-scope"
"""Label of a snapshot that was taken for a backup: a hash of whose backups these are."""
ENGINE = "volumesnapshot"
"""As the manifest of a backup names it."""
LOST = "lost"
"""Suffix of a content that is made anew for what the cluster has lost."""
LONGEST = 253
"""Characters of a name."""
_SUFFIXES: dict[str, int | Decimal] = {"": 1, "k": 10**3, "m": Decimal("0.001")}
_SUFFIXES |= {letter: 10 ** (3 * power) for power, letter in enumerate("MGTPE", start=2)}
_SUFFIXES |= {f"{letter}i": 2 ** (10 * power) for power, letter in enumerate("KMGTPE", start=1)}
_QUANTITY = re.compile(r"([+-]?[0-9]*\.?[0-9]+)(?:[eE]([+-]?[0-9]{1,3})|([numkKMGTPE]?i?))")


@dataclass(frozen=True, slots=True)
class Taken:
    """Everything by which a snapshot can be found again when its objects, or its namespace, are lost."""

    namespace: str
    claim: str
    """The PersistentVolumeClaim that was copied."""
    snapshot: str
    content: str
    handle: str
    """By which the storage knows the snapshot."""
    driver: str
    snapshot_class: str
    restore_size: int
    """Bytes that a volume made of it needs at least."""
    size: int
    """Bytes that the claim asked for."""
    created: str
    """When the storage took it; ISO 8601, UTC."""
    storage_class: str = ""
    volume_mode: str = "Filesystem"
    access_modes: tuple[str, ...] = ("ReadWriteOnce",)
    labels: dict[str, str] = field(default_factory=dict)

    def stored(self) -> bytes:
        """As the backup keeps it."""
        return (json.dumps({"schema": 1, **asdict(self)}, sort_keys=True, indent=2) + "\n").encode()


def facts_of(one: Taken) -> dict[str, Any]:
    """As a tombstone keeps it, and the manifest says it in its parts: enough to let it go. Pure JSON."""
    return {**asdict(one), "access_modes": list(one.access_modes), "labels": {}}


def of_facts(facts: Mapping[str, Any]) -> Taken:
    """The inverse. Raises Corrupted."""
    try:
        return Taken(**{**facts, "access_modes": tuple(facts["access_modes"])})
    except (TypeError, KeyError):
        raise Corrupted(
            "what is said of a snapshot is not what this version of Phoenix writes",
            remedy="prune with the version that marked it",
        ) from None


def scope_label(path: str) -> str:
    """A label cannot hold the path of a scope."""
    return hashlib.sha256(path.encode()).hexdigest()[:32]


def read_back(text: bytes) -> Taken:
    """The inverse of `stored`. Raises Corrupted."""
    try:
        fields: dict[str, Any] = json.loads(text)
        schema = fields.pop("schema")
        one = Taken(**{**fields, "access_modes": tuple(fields["access_modes"])})
    except (ValueError, TypeError, KeyError):
        schema = None
    if schema != 1:
        raise Corrupted(
            "this is no description of a snapshot of this version of Phoenix",
            remedy="restore it with the version that made it",
        )
    return one


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not ready yet."""

    reason: str


def driver_of(volume: Object) -> str:
    """The CSI driver of a PersistentVolume. Raises Invalid for one of another kind."""
    csi = volume["spec"].get("csi")
    if csi is None:
        raise Invalid(
            f"the volume {volume['metadata']['name']} is no CSI volume, of which a snapshot could be taken",
            remedy="back up its files instead: docs/how-to/volume-recovery.md",
        )
    return str(csi["driver"])


def choose_class(classes: Sequence[Object], driver: str, named: str = "") -> str:
    """The VolumeSnapshotClass: the one that is named, else the driver's default, else its only one.

    Raises Invalid where that is none, several, or one of another driver.
    """
    of_driver = [one for one in classes if one["driver"] == driver]
    if named:
        if named in [one["metadata"]["name"] for one in of_driver]:
            return named
        raise Invalid(
            f"there is no VolumeSnapshotClass {named} of the driver {driver}", remedy=_choices(of_driver)
        )
    default = [one for one in of_driver if _is_default(one)] or of_driver
    if len(default) == 1:
        return str(default[0]["metadata"]["name"])
    count = len(default) or "no"
    raise Invalid(
        f"of the driver {driver} there are {count} VolumeSnapshotClasses that it could be",
        remedy=_choices(of_driver),
    )


def _is_default(one: Object) -> bool:
    return (one["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"


def _choices(of_driver: Sequence[Object]) -> str:
    names = ", ".join(sorted(one["metadata"]["name"] for one in of_driver))
    return f"name one: {names}" if names else "make one for it; its vendor's manual says how"


def snapshot_of(claim: Object, name: str, class_name: str, labels: Mapping[str, str]) -> Object:
    """The VolumeSnapshot to create."""
    metadata = {"name": name, "namespace": claim["metadata"]["namespace"], "labels": dict(labels)}
    spec = {
        "volumeSnapshotClassName": class_name,
        "source": {"persistentVolumeClaimName": claim["metadata"]["name"]},
    }
    return {"metadata": metadata, "spec": spec}


def seen(snapshot: Object, content: Object | None) -> Waiting | None:
    """None when it is bound both ways, ready to use and without an error; else what is waited for.

    An error is no end: the controller tries again, and takes it back when that went well.
    """
    status = snapshot.get("status") or {}
    error = (status.get("error") or {}).get("message")
    if error:
        return Waiting(f"the storage says: {error}")
    name = status.get("boundVolumeSnapshotContentName")
    if not name:
        return Waiting("no snapshot controller has taken it up yet")
    if content is None or content["metadata"]["name"] != name:
        return Waiting(f"its content {name} is not there")
    if content["spec"]["volumeSnapshotRef"].get("uid") != snapshot["metadata"]["uid"]:
        return Waiting(f"its content {name} belongs to another snapshot")
    content_error = ((content.get("status") or {}).get("error") or {}).get("message")
    if content_error:
        return Waiting(f"the storage says: {content_error}")
    if status.get("readyToUse") is not True or not (content.get("status") or {}).get("snapshotHandle"):
        return Waiting("the storage is still at it")
    return None


def taken(claim: Object, snapshot: Object, content: Object) -> Taken:
    """Of a snapshot that is ready."""
    spec, status = claim["spec"], content["status"]
    size = quantity(spec["resources"]["requests"]["storage"])
    nanoseconds = int(status.get("creationTime") or 0)
    created = (
        datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat()
        if nanoseconds
        else str(snapshot["status"].get("creationTime") or snapshot["metadata"]["creationTimestamp"])
    )
    return Taken(
        namespace=claim["metadata"]["namespace"],
        claim=claim["metadata"]["name"],
        snapshot=snapshot["metadata"]["name"],
        content=content["metadata"]["name"],
        handle=status["snapshotHandle"],
        driver=content["spec"]["driver"],
        snapshot_class=content["spec"].get("volumeSnapshotClassName") or "",
        restore_size=int(status.get("restoreSize") or size),
        size=size,
        created=created,
        storage_class=spec.get("storageClassName") or "",
        volume_mode=spec.get("volumeMode") or "Filesystem",
        access_modes=tuple(spec["accessModes"]),
        labels=dict(claim["metadata"].get("labels") or {}),
    )


def statically(one: Taken, namespace: str, suffix: str) -> tuple[Object, Object]:
    """Content and snapshot that lead to the storage's own snapshot again, when their first ones are lost."""
    name = short(one.snapshot, LONGEST - len(suffix) - 1) + f"-{suffix}"
    content: Object = {
        "metadata": {"name": short(f"phoenix-{namespace}-{name}", LONGEST), "labels": {OURS: suffix}},
        "spec": {
            "deletionPolicy": "Retain",
            "driver": one.driver,
            "source": {"snapshotHandle": one.handle},
            "sourceVolumeMode": one.volume_mode,
            "volumeSnapshotRef": {"name": name, "namespace": namespace},
        }
        | ({"volumeSnapshotClassName": one.snapshot_class} if one.snapshot_class else {}),
    }
    snapshot: Object = {
        "metadata": {"name": name, "namespace": namespace, "labels": {OURS: suffix}},
        "spec": {"source": {"volumeSnapshotContentName": content["metadata"]["name"]}},
    }
    return content, snapshot


def claim_from(one: Taken, snapshot: str, name: str, namespace: str, backup: str) -> Object:
    """A new PersistentVolumeClaim with what is in the snapshot, as large as that needs."""
    spec: Object = {
        "accessModes": list(one.access_modes),
        "volumeMode": one.volume_mode,
        "resources": {"requests": {"storage": str(max(one.size, one.restore_size))}},
        "dataSource": {"apiGroup": GROUP, "kind": SNAPSHOTS.kind, "name": snapshot},
    }
    if one.storage_class:
        spec["storageClassName"] = one.storage_class
    labels = {**one.labels, OURS: backup}
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec}


def short(name: str, most: int) -> str:
    """A name of at most so many characters, that stays one of its own."""
    if len(name) <= most:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: most - 9].rstrip('-.')}-{mark}"


def quantity(text: object) -> int:
    """A quantity of Kubernetes as whole bytes, rounded up. Raises Invalid."""
    found = _QUANTITY.fullmatch(str(text))
    if found is None or (found[3] or "") not in _SUFFIXES:
        raise Invalid(f"{text!r} is no amount of storage")
    power = Decimal(10) ** int(found[2]) if found[2] else Decimal(_SUFFIXES[found[3] or ""])
    value = Decimal(found[1]) * power
    return int(value.to_integral_value(rounding="ROUND_CEILING"))

"""What becomes of claims and volumes when a restored volume takes the place of the one that is there. Pure.

A claim is bound to its volume for life, and a StatefulSet finds its claims by their names. So the claim goes
and comes again, bound to the restored volume, and the old volume is kept (`Retain`), reserved for nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from phoenix_orch.kernel.errors import BadState
from phoenix_orch.kube.resources import Object

NOTE = "phoenix-orch.io/volume-exchange"
"""Annotation of the volume that takes a place: JSON of an Exchange, until it is done."""
PLACE = "phoenix-orch.io/takes-the-place"
"""Label of that volume: by which it is found when the claim that it was bound to is gone."""
STOPPED = "phoenix-orch.io/stopped-for-restore"
"""Annotation of a workload that was scaled to 0: JSON of how large it was, and for which claim."""
KEPT = "phoenix-orch.io/kept-until"
"""Annotation of a volume that was replaced: when it may go."""
_BOUND = "pv.kubernetes.io/bound-by-controller"
_OF_THE_CLUSTER = ("pv.kubernetes.io/", "volume.kubernetes.io/", "volume.beta.kubernetes.io/")
WORKLOADS = ("Deployment", "StatefulSet")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange, as it is noted before anything is changed."""

    namespace: str
    claim: str
    """Its name stays."""
    volume: str
    """The PersistentVolume that takes the place."""
    through: str
    """The claim that it is bound to until then; empty where it is bound to none."""
    old_volume: str
    """The one that is there; empty where the claim is lost."""
    policy: str
    """Reclaim policy that the new one gets back at the end."""
    body: Object
    """The claim that is to be made."""
    plan: str = ""
    """Hash of the plan that was confirmed: who gives it again goes on."""
    old_policy: str = ""
    """Reclaim policy that the old one gets back where it is ended before its claim went; empty: not known."""
    backup: str = ""
    """The id of the one that is restored; empty: a volume that was kept goes back to its claim."""

    def stored(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def read_note(volume: Object) -> Exchange | None:
    text = (volume["metadata"].get("annotations") or {}).get(NOTE)
    return Exchange(**json.loads(text)) if text else None


def new_claim(
    name: str, like: Object, volume: Object, old: Object | None, labels: Mapping[str, str]
) -> Object:
    """The claim that comes in the place of `old`, bound to `volume`. `like`: that by which the volume was
    made; labels, annotations and owners are those of the old one, which others go by. `labels`: where there
    is none."""
    marked: Object = old["metadata"] if old is not None else {"labels": labels}
    annotations = {
        key: value
        for key, value in (marked.get("annotations") or {}).items()
        if not key.startswith(_OF_THE_CLUSTER) and key != KEPT
    }
    metadata: Object = {
        "name": name,
        "namespace": like["metadata"]["namespace"],
        "labels": dict(marked.get("labels") or {}),
        "annotations": annotations,
    }
    if old is not None and old["metadata"].get("ownerReferences"):
        metadata["ownerReferences"] = old["metadata"]["ownerReferences"]
    spec = volume["spec"]
    return {
        "metadata": metadata,
        "spec": {
            "accessModes": list(like["spec"]["accessModes"]),
            "volumeMode": spec.get("volumeMode") or "Filesystem",
            "storageClassName": spec.get("storageClassName") or "",
            "resources": {"requests": {"storage": spec["capacity"]["storage"]}},
            "volumeName": volume["metadata"]["name"],
        },
    }


def reserved(namespace: str, claim: str) -> dict[str, Any]:
    """Changes after which the volume waits for a claim of that name, whoever makes it."""
    reference = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": namespace,
        "name": claim,
        "uid": None,
        "resourceVersion": None,
    }
    return {"metadata": {"annotations": {_BOUND: None}}, "spec": {"claimRef": reference}}


def let_go(one: Exchange, volume: Object, until: str) -> dict[str, Any]:
    """Changes after which the volume takes no place, and waits for no claim: what holds it is gone. A volume
    that its policy keeps is marked as kept."""
    keeps = one.policy == "Retain"
    reference = {
        "namespace": one.namespace,
        "name": one.through or one.claim,
        "uid": volume["metadata"]["uid"],  # that no claim has
        "resourceVersion": None,
    }
    return {
        "metadata": {
            "labels": {PLACE: None},
            "annotations": {NOTE: None, _BOUND: None, KEPT: until if keeps else None},
        },
        "spec": {"claimRef": reference, "persistentVolumeReclaimPolicy": one.policy},
    }


def claims_of(workload: Object) -> set[str]:
    """Names of claims that its pods use; of a StatefulSet those of its templates with their ordinals, too."""
    spec = workload["spec"]
    volumes = spec["template"]["spec"].get("volumes") or []
    found = {one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one}
    name = workload["metadata"]["name"]
    first = (spec.get("ordinals") or {}).get("start", 0)
    size = max(spec.get("replicas", 1), _noted_size(workload))
    for template in spec.get("volumeClaimTemplates") or ():
        found |= {f"{template['metadata']['name']}-{name}-{first + number}" for number in range(size)}
    return found


def of_templates(workload: Object, claim: str) -> bool:
    """Whether the claim is one that the StatefulSet makes, also beyond its size of now."""
    name = workload["metadata"]["name"]
    for template in workload["spec"].get("volumeClaimTemplates") or ():
        before, dash, ordinal = claim.rpartition("-")
        if dash and ordinal.isdecimal() and before == f"{template['metadata']['name']}-{name}":
            return True
    return False


def uses(workload: Object, claim: str) -> bool:
    return claim in claims_of(workload) or of_templates(workload, claim)


def users(pods: Iterable[Object], claim: str) -> list[str]:
    """Pods that have the claim mounted, or will have: those that have ended do not count."""
    return sorted(one["metadata"]["name"] for one in pods if not _over(one) and _names(one, claim))


def refuse_ended(pods: Iterable[Object], claim: str, namespace: str) -> None:
    """Raises BadState for pods that have ended, and stay: Jobs leave theirs. Kubernetes lets no claim go that
    a pod names which was given to a node: it would be deleted, and wait, with nobody at work."""
    names = sorted(
        one["metadata"]["name"]
        for one in pods
        if _over(one)
        and _names(one, claim)
        and one["spec"].get("nodeName")
        and "deletionTimestamp" not in one["metadata"]
    )
    if names:
        raise BadState(
            f"pods that have ended keep the claim {claim}: {', '.join(names[:3])}",
            remedy=f"delete them, and restore again: kubectl delete pod -n {namespace} {' '.join(names)}",
        )


def _names(pod: Object, claim: str) -> bool:
    return any(
        (volume.get("persistentVolumeClaim") or {}).get("claimName") == claim
        for volume in pod["spec"].get("volumes") or ()
    )


def _over(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}


def refuse_deleting(workload: Object) -> None:
    """Raises BadState for a StatefulSet that deletes its claims when it is scaled down."""
    policy = workload["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    if policy.get("whenScaled") == "Delete":
        name = workload["metadata"]["name"]
        raise BadState(
            f"StatefulSet {name} deletes its claims when it is scaled down, and it has to be for a restore",
            remedy=f"set spec.persistentVolumeClaimRetentionPolicy.whenScaled of {name} to Retain meanwhile",
        )


def stopped(workload: Object, claim: str) -> dict[str, Any]:
    """Changes after which it has no pods, and says how many it had."""
    noted = json.dumps({"replicas": workload["spec"].get("replicas", 1), "claim": claim}, sort_keys=True)
    return {"metadata": {"annotations": {STOPPED: noted}}, "spec": {"replicas": 0}}


def stopped_for(workload: Object) -> Mapping[str, Any] | None:
    text = (workload["metadata"].get("annotations") or {}).get(STOPPED)
    found: Mapping[str, Any] | None = json.loads(text) if text else None
    return found


def resumed(workload: Object) -> dict[str, Any]:
    noted = stopped_for(workload) or {}
    return {"metadata": {"annotations": {STOPPED: None}}, "spec": {"replicas": noted.get("replicas", 1)}}


def _noted_size(workload: Object) -> int:
    return int((stopped_for(workload) or {}).get("replicas", 0))

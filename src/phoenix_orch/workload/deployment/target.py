"""Whether a workload may be released by Phoenix, and by which Rollout."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.manifest import (
    Manifest,
    Patch,
    annotation,
    at,
    controller,
    labels,
    mapping,
    name_of,
    uid_of,
)
from phoenix_orch.workload.deployment.refusal import Refusal

_OTHER_KINDS = {
    "StatefulSet": (
        "its pods have names and volumes of their own, which a canary beside them would not share",
        "release it with its own updateStrategy.rollingUpdate.partition",
    ),
    "DaemonSet": (
        "it runs once on each node, so a canary beside it would run twice",
        "release it with its own updateStrategy and maxUnavailable",
    ),
    "ReplicaSet": ("it has no history to go back to", "name the Deployment that owns it, or make one"),
    "Pod": ("it cannot be replaced in place", "make a Deployment of it"),
}
_LEAVE_ARGO = "delete the Argo Rollout (scaleDown: never keeps the Deployment), or release with Argo Rollouts"
_LEAVE_FLAGGER = "delete the Canary with revertOnDeletion: true, or release with Flagger"
_LEAVE_KRUISE = "delete the Kruise Rollout and wait until it is gone, or release with Kruise"


def refuse_kind(kind: str) -> Refusal | None:
    """Only Deployments are released; says why not another kind, and what to do."""
    if kind == "Deployment":
        return None
    why, remedy = _OTHER_KINDS.get(
        kind, ("Phoenix does not know how it replaces its pods", "name a Deployment")
    )
    if kind == "Rollout":
        why, remedy = "it belongs to Argo Rollouts, which moves its traffic itself", _LEAVE_ARGO
    return Refusal("KindNotSupported", f"a {kind} cannot be released: {why}", remedy)


def foreign(stable: Manifest, primary: Manifest | None = None) -> tuple[Refusal, ...]:
    """Why it is not for Phoenix to release this workload at all.

    `primary`: the Deployment `<name>-primary`, if there is one; Flagger leaves its marks there alone.
    """
    kind = str(stable.get("kind") or "Deployment")
    other = refuse_kind(kind)
    return (other,) if other is not None else tuple(_owned_by_others(stable, primary))


def unfit(stable: Manifest) -> tuple[Refusal, ...]:
    """Why it cannot be promoted over as it is now."""
    return tuple(_unfit(stable))


def _owned_by_others(stable: Manifest, primary: Manifest | None) -> Iterator[Refusal]:
    name, owner = name_of(stable), controller(stable)
    template_labels = labels(mapping(stable, "spec", "template"))
    if (
        _made_by(owner, "argoproj.io")
        or annotation(stable, "rollout.argoproj.io/workload-generation") is not None
        or "rollouts-pod-template-hash" in template_labels
    ):
        yield Refusal("OwnedByArgoRollouts", f"Deployment {name} is released by Argo Rollouts", _LEAVE_ARGO)
    elif _made_by(owner, "flagger.app") or (
        primary is not None and _made_by(controller(primary), "flagger.app")
    ):
        yield Refusal("OwnedByFlagger", f"Deployment {name} is released by Flagger", _LEAVE_FLAGGER)
    elif any("rollouts.kruise.io/" in key for key in mapping(stable, "metadata", "annotations")):
        yield Refusal("OwnedByKruise", f"Deployment {name} is released by Kruise Rollouts", _LEAVE_KRUISE)
    elif owner is not None:
        what = f"{owner.get('kind')} {owner.get('name')}"
        yield Refusal(
            "OwnedByController",
            f"Deployment {name} is managed by {what}, which would undo a promotion",
            f"release through {what}, or take its ownerReference away",
        )
    elif labels(stable).get(marks.MANAGED_BY) == marks.MANAGER:
        yield Refusal(
            "IsCanary",
            f"Deployment {name} is a canary that Phoenix made",
            f"name the Deployment it was made from: {labels(stable).get(marks.ROLLOUT, 'see its labels')}",
        )


def _made_by(owner: Manifest | None, group: str) -> bool:
    return owner is not None and str(owner.get("apiVersion", "")).partition("/")[0] == group


def _unfit(stable: Manifest) -> Iterator[Refusal]:
    name, spec = name_of(stable), mapping(stable, "spec")
    if at(stable, "metadata", "deletionTimestamp"):
        yield Refusal("BeingDeleted", f"Deployment {name} is being deleted", "make it anew first")
    if spec.get("paused"):
        yield Refusal(
            "Paused",
            f"Deployment {name} is paused, so that a promotion would change nothing",
            f"kubectl rollout resume deployment/{name}",
        )
    if at(spec, "strategy", "type") == "Recreate":
        yield Refusal(
            "Recreates",
            f"Deployment {name} ends all pods before it starts new ones (strategy Recreate)",
            "use strategy RollingUpdate",
        )
    elif (replicas := replicas_of(stable)) > 0 and _unavailable(spec, replicas) >= replicas:
        yield Refusal(
            "MayBeEmpty",
            f"Deployment {name} may have no ready pod while it is updated "
            f"(maxUnavailable {at(spec, 'strategy', 'rollingUpdate', 'maxUnavailable')} of {replicas})",
            "use a smaller maxUnavailable, 0 for instance",
        )


def replicas_of(deployment: Manifest) -> int:
    """Pods that it wants; 1 where it does not say."""
    wanted = at(deployment, "spec", "replicas")
    return 1 if wanted is None else int(wanted)


def _unavailable(spec: Manifest, replicas: int) -> int:
    """How many pods may be away during an update, as the Deployment controller counts them."""
    rolling = mapping(spec, "strategy", "rollingUpdate")
    away = _count(rolling.get("maxUnavailable", "25%"), replicas, math.floor)
    surge = _count(rolling.get("maxSurge", "25%"), replicas, math.ceil)
    return 1 if away == 0 and surge == 0 else away


def _count(value: Any, of: int, rounded: Any) -> int:
    text = str(value)
    if text.endswith("%"):
        return int(rounded(int(text[:-1]) * of / 100))
    return int(text)


@dataclass(frozen=True, slots=True)
class Holder:
    """A Rollout that wants a Deployment for itself. The uid names it beyond doubt."""

    name: str
    uid: str


def holder(stable: Manifest) -> Holder | None:
    """The Rollout that claims it."""
    uid = annotation(stable, marks.CLAIM)
    return None if uid is None else Holder(annotation(stable, marks.CLAIMANT) or "", uid)


def claim(stable: Manifest, by: Holder, *, gone: Sequence[str] = ()) -> Patch | Refusal | None:
    """The patch that claims `stable`; None when it is claimed already.

    `gone`: uids of Rollouts that are known not to exist any more; their claims are taken over. One that
    cannot be looked for is not gone. The patch has to be conditional on the version of `stable`.
    """
    held = holder(stable)
    if held is not None and held.uid != by.uid and held.uid not in gone:
        return Refusal(
            "ClaimedByAnother",
            f"Deployment {name_of(stable)} is released by the Rollout {held.name or held.uid}",
            f"delete one of the Rollouts {held.name or held.uid} and {by.name}",
        )
    if held == by:
        return None
    return {"metadata": {"annotations": {marks.CLAIM: by.uid, marks.CLAIMANT: by.name}}}


def unclaim(stable: Manifest, by: Holder) -> Patch | None:
    """The patch that gives `stable` up; None: it is not its."""
    held = holder(stable)
    if held is None or held.uid != by.uid:
        return None
    kept = mapping(stable, "metadata", "annotations")
    return {"metadata": {"annotations": {key: None for key in kept if marks.is_ours(key)}}}


def is_ours(found: Manifest, rollout: str) -> bool:
    """Phoenix made it, for this Rollout: it may change and delete it."""
    marked = labels(found)
    return marked.get(marks.MANAGED_BY) == marks.MANAGER and marked.get(marks.ROLLOUT) == rollout


def owner_reference(owner: Manifest) -> dict[str, Any]:
    """A reference by which the garbage collector takes the dependent away with `owner`."""
    return {
        "apiVersion": owner.get("apiVersion") or "apps/v1",
        "kind": owner.get("kind") or "Deployment",
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": False,
    }

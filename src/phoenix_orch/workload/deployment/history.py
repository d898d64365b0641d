"""The history of a Deployment as its ReplicaSets keep it, and the way back to one of them. Pure.

As `kubectl rollout history` and `undo` do it, so that both may be used in turn.
Source: k8s.io/kubectl/pkg/polymorphichelpers/{history,rollback}.go.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from phoenix_orch.kernel.errors import BadState, NotFound
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.manifest import (
    Manifest,
    Patch,
    annotation,
    at,
    difference,
    items,
    labels,
    mapping,
    name_of,
    owned_by,
)
from phoenix_orch.workload.deployment.revision import template_hash

_NOT_COPIED = frozenset(
    {
        marks.LAST_APPLIED,
        marks.NUMBER,
        marks.NUMBERS_BEFORE,
        "deployment.kubernetes.io/desired-replicas",
        "deployment.kubernetes.io/max-replicas",
        "deprecated.deployment.rollback.to",
    }
)
"""Annotations that belong to a ReplicaSet or to a Deployment alone."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One entry of a Deployment's history."""

    number: int
    """As `kubectl rollout history` counts: the highest one is the present one."""
    revision: str
    template: str
    """Hash of the pod template alone."""
    change_cause: str
    images: tuple[str, ...]
    created: datetime | None
    pods: int
    ready: int
    stable: bool
    """It is what the Deployment wants now."""
    latched: bool
    """It was rolled back, and only a person may release it again."""


def template_of(replica_set: Manifest) -> dict[str, Any]:
    """Its pod template as the Deployment had it: without the hash that the controller adds."""
    template = replica_set["spec"]["template"]
    metadata = dict(mapping(template, "metadata"))
    kept = {key: value for key, value in labels(template).items() if key != marks.POD_TEMPLATE_HASH}
    return {**template, "metadata": {**metadata, "labels": kept}}


def release_of(template: Manifest) -> str:
    """The images of a template, for people."""
    return ", ".join(str(one.get("image")) for one in items(template, "spec", "containers"))


def history(
    deployment: Manifest,
    replica_sets: Sequence[Manifest],
    *,
    revisions: Mapping[str, str],
    latched: Collection[str] = (),
) -> tuple[Kept, ...]:
    """All that is kept, oldest first. `revisions`: the revision of each ReplicaSet by name."""
    now = template_hash(deployment["spec"]["template"])
    newest = newest_with(now, deployment, replica_sets)
    return tuple(
        Kept(
            number=number,
            revision=revisions[name_of(one)],
            template=template_hash(template_of(one)),
            change_cause=annotation(one, marks.CHANGE_CAUSE) or "",
            images=tuple(
                str(each.get("image")) for each in items(one, "spec", "template", "spec", "containers")
            ),
            created=moment(at(one, "metadata", "creationTimestamp")),
            pods=int(at(one, "status", "replicas") or 0),
            ready=int(at(one, "status", "readyReplicas") or 0),
            stable=one is newest,
            latched=revisions[name_of(one)] in latched,
        )
        for number, one in _numbered(deployment, replica_sets)
    )


def newest_with(template: str, deployment: Manifest, replica_sets: Sequence[Manifest]) -> Manifest | None:
    """The ReplicaSet of that template; the newest one where several differ only in a restart."""
    same = [
        one for _, one in _numbered(deployment, replica_sets) if template_hash(template_of(one)) == template
    ]
    return same[-1] if same else None


def _numbered(deployment: Manifest, replica_sets: Sequence[Manifest]) -> list[tuple[int, Manifest]]:
    found = [
        (int(number), one)
        for one in replica_sets
        if owned_by(one, deployment) and (number := annotation(one, marks.NUMBER) or "").isdecimal()
    ]
    return sorted(found, key=lambda entry: entry[0])


def undo(deployment: Manifest, replica_sets: Sequence[Manifest], to: int = 0) -> Patch | None:
    """The patch that puts the template of revision number `to` back; 0: the one before the present one.

    None: it is what the Deployment wants already. Raises NotFound for a number that is not kept, BadState
    when there is none to go back to or the Deployment is paused.
    """
    name = name_of(deployment)
    if at(deployment, "spec", "paused"):
        raise BadState(
            f"Deployment {name} is paused", remedy=f"kubectl rollout resume deployment/{name}, and try again"
        )
    target = _target(name, _numbered(deployment, replica_sets), to)
    before, after = deployment["spec"]["template"], template_of(target)
    if template_hash(before) == template_hash(after) and mapping(before, "metadata") == mapping(
        after, "metadata"
    ):
        return None
    kept = {
        key: value for key, value in mapping(deployment, "metadata", "annotations").items() if _stays(key)
    }
    came = {
        key: value for key, value in mapping(target, "metadata", "annotations").items() if not _stays(key)
    }
    annotations = difference(mapping(deployment, "metadata", "annotations"), {**kept, **came})
    template = difference(before, after)
    return {"metadata": {"annotations": annotations}, "spec": {"template": template}}


def _stays(key: str) -> bool:
    """An annotation of the Deployment that no return changes: those of its bookkeeping, and our claim."""
    return key in _NOT_COPIED or marks.is_ours(key)


def _target(name: str, numbered: Sequence[tuple[int, Manifest]], to: int) -> Manifest:
    if to == 0:
        if len(numbered) < 2:
            raise BadState(
                f"Deployment {name} has no revision before the present one",
                remedy="its revisionHistoryLimit says how many are kept",
            )
        return numbered[-2][1]
    for number, one in numbered:
        if number == to:
            return one
    known = ", ".join(str(number) for number, _ in numbered) or "none"
    raise NotFound(f"Deployment {name} has no revision {to}", remedy=f"revisions kept: {known}")


@dataclass(frozen=True, slots=True)
class StableChanged:
    """Somebody else changed what stable runs while a release was on its way: the caller aborts."""

    template: str
    undo_to: int | None
    """The number that the revision had before, where it is one that had run already."""
    message: str


def changed_by_others(
    deployment: Manifest, replica_sets: Sequence[Manifest], *, known: Collection[str]
) -> StableChanged | None:
    """Whether stable's template is none of `known`: that at the start, and that being promoted.

    The Deployment controller gives a revision that comes back a new number and remembers the old ones.
    """
    now = template_hash(deployment["spec"]["template"])
    if now in known:
        return None
    name = name_of(deployment)
    found = newest_with(now, deployment, replica_sets)
    if found is None:
        return StableChanged(now, None, f"the pod template of Deployment {name} was edited by hand")
    number = int(annotation(found, marks.NUMBER) or 0)
    before = (annotation(found, marks.NUMBERS_BEFORE) or "").split(",")[-1]
    if number < _numbered(deployment, replica_sets)[-1][0]:  # it has not been numbered anew yet
        before = str(number)
    if not before.isdecimal():
        return StableChanged(now, None, f"the pod template of Deployment {name} was edited by hand")
    return StableChanged(now, int(before), f"Deployment {name} was taken back to revision {before} by hand")


def moment(text: Any) -> datetime | None:
    """A time of the API server. None where there is none."""
    return datetime.fromisoformat(str(text)) if text else None

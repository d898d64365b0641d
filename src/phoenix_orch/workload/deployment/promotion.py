"""Promotion: stable takes over what the canary runs, and is waited for. Pure; level-triggered.

`promote` is asked again after every change and after every crash: what stable says is all it knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.history import release_of, template_of
from phoenix_orch.workload.deployment.manifest import (
    Manifest,
    Patch,
    annotation,
    at,
    difference,
    items,
    mapping,
    name_of,
    owned_by,
)
from phoenix_orch.workload.deployment.refusal import Refusal
from phoenix_orch.workload.deployment.revision import Revision, marked, template_hash
from phoenix_orch.workload.deployment.selectors import (
    NOTHING_AROUND,
    Surroundings,
    as_stable,
    identity,
)
from phoenix_orch.workload.deployment.target import replicas_of


class Progress(StrEnum):
    """How far a Deployment is with its template, as `kubectl rollout status` sees it."""

    UNSEEN = "unseen"  # the controller has not looked at the present template yet
    UPDATING = "updating"  # pods of the new template are missing
    LEAVING = "leaving"  # pods of an older template are still there
    STARTING = "starting"  # all are new, not all available
    COMPLETE = "complete"
    EXCEEDED = "exceeded"  # progressDeadlineSeconds passed without progress


@dataclass(frozen=True, slots=True)
class Standing:
    """What a Deployment's status says of its present template."""

    progress: Progress
    message: str
    wanted: int
    updated: int = 0
    available: int = 0
    """Pods available, of whatever template."""

    @property
    def complete(self) -> bool:
        return self.progress is Progress.COMPLETE


def standing(deployment: Manifest) -> Standing:
    """Read the status. Nothing in it counts before `observedGeneration` is the present one: `Available`
    may still be that of the template before."""
    name, status = name_of(deployment), mapping(deployment, "status")
    wanted = replicas_of(deployment)
    generation = int(at(deployment, "metadata", "generation") or 0)
    if int(status.get("observedGeneration") or 0) < generation:
        return Standing(Progress.UNSEEN, f"the change of {name} has not been seen yet", wanted)
    updated, total = int(status.get("updatedReplicas") or 0), int(status.get("replicas") or 0)
    available = int(status.get("availableReplicas") or 0)

    def found(progress: Progress, message: str) -> Standing:
        return Standing(progress, message, wanted, updated, available)

    condition = _condition(deployment, "Progressing")
    if condition.get("reason") == "ProgressDeadlineExceeded":
        seconds = at(deployment, "spec", "progressDeadlineSeconds") or 600
        return found(Progress.EXCEEDED, f"{name} made no progress for {seconds} s: {updated} of {wanted} new")
    if updated < wanted:
        return found(Progress.UPDATING, f"{updated} of {wanted} pods of {name} are new")
    if total > updated:
        return found(Progress.LEAVING, f"{total - updated} old pods of {name} have to end")
    if available < updated or int(status.get("readyReplicas") or 0) < wanted:
        return found(Progress.STARTING, f"{available} of {wanted} new pods of {name} are available")
    return found(Progress.COMPLETE, f"all {wanted} pods of {name} are new and available")


def _condition(deployment: Manifest, kind: str) -> Manifest:
    conditions = items(deployment, "status", "conditions")
    return next((one for one in conditions if one.get("type") == kind), {})


def fresh(deployment: Manifest, replica_sets: Sequence[Manifest]) -> int:
    """Available pods of the present template. `standing` counts those of older ones too."""
    now = template_hash(deployment["spec"]["template"])
    return sum(
        int(at(one, "status", "availableReplicas") or 0)
        for one in replica_sets
        if owned_by(one, deployment) and template_hash(template_of(one)) == now
    )


@dataclass(frozen=True, slots=True)
class Promotion:
    """What to do now. Exactly one of `patch`, `refusal` and `wait` is there, or none: it is done."""

    patch: Patch | None = None
    """For stable; conditional on the version that was looked at."""
    refusal: Refusal | None = None
    """It cannot go on. The canary goes on serving."""
    wait: str = ""
    """It goes on by itself."""
    standing: Standing | None = None

    @property
    def done(self) -> bool:
        return self.patch is None and self.refusal is None and not self.wait


def promoted_template(
    stable: Manifest,
    canary: Manifest,
    found: Revision,
    around: Surroundings = NOTHING_AROUND,
) -> dict[str, Any]:
    """Stable's pod template as the canary's revision makes it.

    The canary's template, under stable's labels, with the revision written on it. Phoenix's own marks go,
    the time of stable's last restart stays.
    """
    before = stable["spec"]["template"]
    after = as_stable(canary["spec"]["template"], identity(stable, canary, around))
    metadata = dict(mapping(after, "metadata"))
    for part in ("labels", "annotations"):
        metadata[part] = {key: value for key, value in mapping(metadata, part).items() if _goes_along(key)}
    if (restarted := annotation(before, marks.RESTARTED_AT)) is not None:
        metadata["annotations"][marks.RESTARTED_AT] = restarted
    if "creationTimestamp" in mapping(before, "metadata"):
        metadata["creationTimestamp"] = before["metadata"]["creationTimestamp"]
    return marked({**after, "metadata": metadata}, found)


def _goes_along(key: str) -> bool:
    return not marks.is_ours(key) and key not in (marks.RESTARTED_AT, marks.LAST_APPLIED)


def promote(
    stable: Manifest,
    canary: Manifest,
    found: Revision,
    *,
    expected: str,
    rollout: str,
    around: Surroundings = NOTHING_AROUND,
) -> Promotion:
    """The next step of the promotion of `found`, the canary's revision.

    Somebody else who has given stable that very template, a Git tool for instance, has promoted it.
    `expected`: the hash of the template that stable had when the release began. Another one that is not
    the promoted one either is somebody's own change: refused, as everything that is not complete after
    `progressDeadlineSeconds`.
    """
    before, name = stable["spec"]["template"], name_of(stable)
    now = template_hash(before)
    # Where the template is the one of the start, only the mark tells whether its pods read the new values.
    if now == found.template and (now != expected or annotation(before, marks.REVISION) == found.id):
        return _waited_for(stable)
    if now != expected:
        return Promotion(
            refusal=Refusal(
                "StableChanged",
                f"the pod template of Deployment {name} was changed by somebody else during the release",
                "decide again: what it runs now is a revision of its own",
            )
        )
    after = promoted_template(stable, canary, found, around)
    cause = f"phoenix rollout {rollout}: {release_of(after)} ({found.id})"
    return Promotion(
        patch={
            "metadata": {"annotations": {marks.CHANGE_CAUSE: cause}},
            "spec": {"template": difference(before, after)},
        }
    )


def _waited_for(stable: Manifest) -> Promotion:
    found = standing(stable)
    if found.progress is Progress.EXCEEDED:
        stuck = Refusal(
            "ProgressDeadlineExceeded",
            found.message,
            "the canary goes on serving meanwhile; look at the new pods, or undo the promotion",
        )
        return Promotion(refusal=stuck, standing=found)
    return Promotion(wait="" if found.complete else found.message, standing=found)

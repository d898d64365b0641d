"""`phoenix rollout start` and `undo` on the Deployments of a cluster, with the rights of whoever says it.

A release begins with a canary whose template differs from stable's, and wants pods: here it is made from
stable, or the one there is gets other images. Going back at rest is what `kubectl rollout undo` does. Either
is seen by the orchestrator as any other change of a Deployment, so that none of ours has to run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from phoenix_orch.kernel.clock import RealClock
from phoenix_orch.kernel.errors import BadState, Conflict
from phoenix_orch.kube.errors import AlreadyExists
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import DEPLOYMENTS
from phoenix_orch.orchestrator.attainable import refuse_unattainable
from phoenix_orch.orchestrator.cluster import person
from phoenix_orch.orchestrator.cluster.declared import Declared
from phoenix_orch.orchestrator.cluster.freezing import through_freeze
from phoenix_orch.orchestrator.cluster.reach import Found, Reach
from phoenix_orch.orchestrator.cluster.unsupported import unsupported
from phoenix_orch.orchestrator.reading import or_none
from phoenix_orch.orchestrator.targets import refuse_target
from phoenix_orch.orchestrator.views import Change, ChangeKind
from phoenix_orch.rollout.status import ACTIVE, State
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.history import Kept, history, release_of, undo
from phoenix_orch.workload.deployment.manifest import Manifest, Patch, name_of, uid_of
from phoenix_orch.workload.deployment.refusal import Refusal, refuse
from phoenix_orch.workload.deployment.release import (
    by_hand,
    from_stable,
    made_canary,
    must_be_anew,
    own_canary,
    turned_into,
    unfit_canary,
)
from phoenix_orch.workload.deployment.scene import PodTemplate, Scene
from phoenix_orch.workload.deployment.size import canary_size, scaled_to_zero
from phoenix_orch.workload.deployment.target import Holder, claim, foreign, holder, unfit


async def start(
    there: Reach,
    name: str,
    images: Mapping[str, str],
    *,
    reason: str,
    dry_run: bool,
    even_if_unattainable: bool,
    override_freeze: bool = False,
) -> Change:
    """Release other images, by container.

    Raises NotFound for an unknown container, Latched, BadState for what cannot be released now, Forbidden
    with the right that is missing, Conflict when somebody else was quicker.
    """
    found = await there.rollout(name)
    one, rollout = found.one, found.one.rollout
    scene = await there.scene(one)
    _refuse_unfit(one, scene, await _gone(there, one, scene))
    count = _first_size(one, scene)
    own = own_canary(scene, scene.canary, images, count) if by_hand(scene, name) and scene.canary else None
    template = own[0] if own is not None else from_stable(scene, images)
    if template.revision == scene.stable_revision():
        raise BadState(f"{name} would be the same as what is stable", remedy="give another image")
    refuse_target(rollout, await _latched(found), template.revision)
    if there.log is not None and not even_if_unattainable:
        await refuse_unattainable(there.log, RealClock(), rollout, rollout.spec)
    await through_freeze(
        there,
        rollout,
        template.revision,
        reason=reason,
        actor=there.actor,
        override=override_freeze,
        dry_run=dry_run,
    )
    cause = {marks.CHANGE_CAUSE: f"phoenix rollout start {name}: {reason or release_of(template.manifest)}"}
    if own is not None and scene.canary is not None:
        await _patch(there, scene.canary, {"metadata": {"annotations": cause}, **own[1]}, dry_run=dry_run)
    else:
        await _make(there, one, scene, template, count=count, cause=cause, dry_run=dry_run)
    version = release_of(template.manifest)
    return Change(
        kind=ChangeKind.RELEASE,
        target=f"rollout/{name}",
        detail=f"{version} is released step by step, in Deployment {one.spec.canary_name}",
        revision=template.revision,
        version=version,
    )


async def _gone(there: Reach, one: Declared, scene: Scene) -> tuple[str, ...]:
    """The uid of a Rollout that claims stable and exists no more."""
    held = holder(scene.stable)
    if held is None or held.uid == one.uid:
        return ()
    return () if held.uid in {other.one.uid for other in await there.rollouts()} else (held.uid,)


def _refuse_unfit(one: Declared, scene: Scene, gone: tuple[str, ...]) -> None:
    claimed = claim(scene.stable, Holder(one.name, one.uid), gone=gone)
    found = [
        unsupported(one.spec),
        *foreign(scene.stable),
        *unfit(scene.stable),
        scaled_to_zero(scene.stable),
        claimed if isinstance(claimed, Refusal) else None,
        *(unfit_canary(scene, scene.canary) if scene.canary is not None else []),
    ]
    refuse([one for one in found if one is not None])


def _first_size(one: Declared, scene: Scene) -> int:
    """Pods for the first step; the orchestrator sets them from then on."""
    weight = one.rollout.spec.steps()[0].weight
    sizing = one.deployment().sizing
    return max(1, canary_size(scene.stable, weight, sizing=sizing, autoscaler=scene.autoscaler).pods)


async def _latched(found: Found) -> tuple[str, ...]:
    """What is latched; nothing is where nothing has been steered yet."""
    traffic = await or_none(found.router.read(found.one.rollout.route))
    return traffic.aborted if traffic is not None else ()


async def _make(
    there: Reach,
    one: Declared,
    scene: Scene,
    template: PodTemplate,
    *,
    count: int,
    cause: Mapping[str, str],
    dry_run: bool,
) -> None:
    """The canary's Deployment, made from stable: anew, or in place of what it ran."""
    made = made_canary(scene, template, name=one.spec.canary_name, rollout=one.name, count=count)
    made["metadata"]["annotations"] = {**made["metadata"].get("annotations", {}), **cause}
    canary = scene.canary
    if canary is not None and not must_be_anew(canary, made):
        await _patch(there, canary, turned_into(canary, made), dry_run=dry_run)
        return
    if canary is not None:
        await _may_be_made(there, one, made)
        await there.client.delete(
            DEPLOYMENTS, name_of(canary), one.namespace, uid=uid_of(canary), dry_run=dry_run
        )
    if canary is None or not dry_run:
        await there.client.create(DEPLOYMENTS, made, one.namespace, dry_run=dry_run)


async def _may_be_made(there: Reach, one: Declared, made: Manifest) -> None:
    """Ask before the old one is deleted, so that a refusal leaves it. Raises Forbidden, Invalid.

    The API server looks at rights, admission and fields first, and last whether the name is taken.
    """
    with contextlib.suppress(AlreadyExists):
        await there.client.create(DEPLOYMENTS, {**made}, one.namespace, dry_run=True)


async def _patch(there: Reach, found: Manifest, changes: Patch, *, dry_run: bool) -> None:
    """If it is still as it was looked at. Raises Conflict."""
    try:
        await there.client.patch(
            DEPLOYMENTS,
            name_of(found),
            merge_patch_of({**found}, changes),
            found["metadata"]["namespace"],
            dry_run=dry_run,
        )
    except Conflict as error:
        raise Conflict(
            f"Deployment {name_of(found)} was changed meanwhile", remedy="say the same again"
        ) from error


# -- going back ------------------------------------------------------------------------------------


async def go_back(there: Reach, name: str, *, to_revision: int | None, reason: str, dry_run: bool) -> Change:
    """In the middle of a release an abort; at rest the template before, as `kubectl rollout undo` does it.

    Raises BadState where there is nothing to go back to, NotFound for a number that is not kept, Latched.
    """
    found = await there.rollout(name)
    status = found.one.rollout.status
    scene = await there.scene(found.one)
    latched = await _latched(found)
    kept = history(scene.stable, scene.replica_sets, revisions=scene.revisions(), latched=latched)
    if status.state in ACTIVE or status.state is State.BAKING:
        back = status.previous if status.state is State.BAKING else status.stable
        return await _by_abort(there, name, _of(kept, back), to_revision, reason=reason, dry_run=dry_run)
    if to_revision is None and status.state in {State.ROLLING_BACK, State.CANCELLING, State.ROLLED_BACK}:
        raise BadState(
            f"{name} was taken back already; undo would go back one more",
            remedy=f"phoenix get revisions {name} lists what there is, for --to-revision",
        )
    patch = undo(scene.stable, scene.replica_sets, to_revision or 0)
    goal = kept[-2] if to_revision is None else next(one for one in kept if one.number == to_revision)
    if patch is None:
        raise BadState(
            f"revision {goal.number} is what {name} serves already",
            remedy=f"phoenix get revisions {name} lists the others",
        )
    refuse_target(found.one.rollout, latched, goal.revision)
    await _patch(there, scene.stable, patch, dry_run=dry_run)
    return Change(
        kind=ChangeKind.RELEASE,
        target=f"rollout/{name}",
        detail=f"from {_named(kept[-1])} to {_named(goal)}: stable's pods are replaced, without phases",
        revision=goal.revision,
        version=", ".join(goal.images),
    )


async def _by_abort(
    there: Reach, name: str, back: Kept | None, to_revision: int | None, *, reason: str, dry_run: bool
) -> Change:
    if back is not None and to_revision not in (None, back.number):
        raise BadState(
            f"{name} is being released; undo goes back to revision {back.number} now",
            remedy=f"phoenix rollout abort {name}, then undo --to-revision {to_revision}",
        )
    taken = await person.abort(there, name, reason=reason or "undo", dry_run=dry_run)
    word = "would be" if dry_run else "is"
    serves = _named(back) if back is not None else f"revision {taken.stable}"
    return Change(
        kind=ChangeKind.RELEASE,
        target=f"rollout/{name}",
        detail=f"the release under way {word} aborted; {serves} serves then",
        revision=taken.stable,
        version=", ".join(back.images) if back is not None else "",
    )


def _of(kept: tuple[Kept, ...], revision: str | None) -> Kept | None:
    return next((one for one in reversed(kept) if one.revision == revision), None)


def _named(one: Kept) -> str:
    return f"revision {one.number}, {', '.join(one.images)}"

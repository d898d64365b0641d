"""The workload of a cluster: stable as an ordinary Deployment, a canary beside it, promotion in place.

Reads come from watches, every write is conditional on the version that was looked at. After a write that
met another one everything is looked at and decided again, a few times; then it is a Conflict, and nothing
was written. Nothing is remembered
between two calls but what was declared, so that a process that takes over goes on where the last one was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from phoenix_orch.kernel.clock import Clock, RealClock
from phoenix_orch.kernel.errors import BadState, Conflict, Invalid, NotFound
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import DEPLOYMENTS, SERVICES
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment import promotion as promotions
from phoenix_orch.workload.deployment.canary import SUFFIX, canary_service, with_images
from phoenix_orch.workload.deployment.health import Trouble
from phoenix_orch.workload.deployment.history import Kept, StableChanged, changed_by_others, history, undo
from phoenix_orch.workload.deployment.manifest import Manifest, difference, mapping, name_of
from phoenix_orch.workload.deployment.promotion import Promotion, promote
from phoenix_orch.workload.deployment.refusal import Refusal, refuse
from phoenix_orch.workload.deployment.release import made_canary, must_be_anew, turned_into, unfit_canary
from phoenix_orch.workload.deployment.revision import adopted, revision
from phoenix_orch.workload.deployment.scene import PodTemplate, Scene, shown
from phoenix_orch.workload.deployment.size import (
    Size,
    Sizing,
    canary_size,
    full_size,
    keep_size,
    scaled_to_zero,
    weight_to_leave,
)
from phoenix_orch.workload.deployment.target import (
    Holder,
    claim,
    foreign,
    holder,
    is_ours,
    replicas_of,
    unclaim,
    unfit,
)
from phoenix_orch.workload.kubernetes_objects import Watches
from phoenix_orch.workload.kubernetes_writes import Writes, decided_again
from phoenix_orch.workload.pod_events import PodEvents
from phoenix_orch.workload.workload import WorkloadState


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """Which Deployment is released, and for whom."""

    namespace: str
    stable: str
    canary: str
    """Its canary: the user's own, or made from stable when there is none."""
    rollout: Holder
    sizing: Sizing = field(default_factory=Sizing)


class KubernetesWorkload:
    """Deployments as a `Running[DeploymentSpec, PodTemplate]`, with what only a cluster has."""

    def __init__(self, client: KubeClient, watches: Watches, *, clock: Clock | None = None) -> None:
        """`client`: fenced, where several processes could write. `watches` have to be synced."""
        self._events = PodEvents(client)
        self._watches = watches
        self._writes = Writes(client, watches)
        self._clock = clock or RealClock()
        self._declared: dict[str, DeploymentSpec] = {}

    # -- what is -----------------------------------------------------------------------------------

    async def services(self) -> tuple[str, ...]:
        return tuple(sorted(self._declared))

    async def state(self, service: str) -> WorkloadState:
        """Raises NotFound for a service that is not declared, or whose Deployment is gone."""
        scene, events = await self._look(service)
        return scene.state(service, self._clock.now(), events)

    async def troubles(self, service: str) -> tuple[tuple[Trouble, ...], tuple[Refusal, ...]]:
        """(what the cluster keeps from happening: wait, why pods are refused for good: take back)."""
        scene, events = await self._look(service)
        return scene.troubles(events)

    async def obstacles(self, service: str) -> tuple[Refusal, ...]:
        """Why no weight may be raised now, though the service is declared; people change Deployments."""
        spec = self._spec(service)
        scene = self._scene(spec)
        found = [*foreign(scene.stable), *unfit(scene.stable)]
        if (empty := scaled_to_zero(scene.stable)) is not None:
            found.append(empty)
        if (held := holder(scene.stable)) != spec.rollout:
            found.append(_not_held(spec, held))
        if scene.canary is not None:
            found += unfit_canary(scene, scene.canary)
        return tuple(found)

    async def templates(self, service: str) -> Mapping[str, PodTemplate]:
        return shown(self._scene(self._spec(service)))

    async def stable(self, service: str) -> PodTemplate:
        """What stable would run if its pods were started now: another revision than they run, after a
        ConfigMap that they read was changed."""
        return self._scene(self._spec(service)).stable_template()

    async def canary(self, service: str) -> PodTemplate | None:
        """What the canary's Deployment asks for; it is a release where that differs from stable."""
        return self._scene(self._spec(service)).canary_template()

    async def with_images(self, service: str, images: Mapping[str, str]) -> PodTemplate:
        """Stable with other images by container. Raises NotFound for an unknown container."""
        scene = self._scene(self._spec(service))
        template = with_images(scene.stable["spec"]["template"], images)
        return PodTemplate(template, revision(template, scene.contents))

    async def size(self, service: str, weight: int) -> Size:
        """Pods that the canary needs for `weight` per cent."""
        spec = self._spec(service)
        scene = self._scene(spec)
        return canary_size(
            scene.stable,
            weight,
            sizing=spec.sizing,
            autoscaler=scene.autoscaler,
            kept=scene.kept_size(),
        )

    async def weight_to_leave(self, service: str) -> int:
        """The weight in per cent that has to stay with the canary for stable's sake (rule R5)."""
        scene = self._scene(self._spec(service))
        full = full_size(scene.stable, scene.autoscaler, scene.kept_size())
        ready = promotions.fresh(scene.stable, scene.replica_sets)
        return weight_to_leave(ready, full, autoscaled=scene.autoscaler is not None)

    # -- what is wanted ----------------------------------------------------------------------------

    @decided_again
    async def declare(self, service: str, spec: DeploymentSpec, *, gone: Sequence[str] = ()) -> None:
        """Claim the Deployment for the Rollout, so that no other one releases on it, and write down on it
        what it runs. Call it in every pass: what was lost is put back.

        `gone`: uids of Rollouts that exist no more. Raises BadState where it belongs to somebody else,
        NotFound where it does not exist, Conflict; otherwise it is declared. What keeps it from being
        released now is told by `obstacles`: it must not keep anybody from taking a canary away.
        """
        scene = self._scene(spec)
        if holder(scene.stable) != spec.rollout:
            primary = self._watches.deployments.get(f"{spec.stable}-primary", spec.namespace)
            refuse(foreign(scene.stable, primary))
        claimed = claim(scene.stable, spec.rollout, gone=gone)
        if isinstance(claimed, Refusal):
            refuse([claimed])
        else:
            known = adopted(scene.stable, scene.contents)
            said = {**mapping(claimed or {}, "metadata", "annotations"), **known}
            if said:
                await self._writes.patch(DEPLOYMENTS, scene.stable, {"metadata": {"annotations": said}})
        self._declared[service] = spec

    @decided_again
    async def scale(self, service: str, template: PodTemplate, count: int) -> None:
        """Want `count` canary pods of `template`.

        Stable's revision is left alone: how many pods it has is up to the user or an autoscaler. Where
        the canary is the user's own and asks for something else, BadState; where Phoenix makes it, it is
        made or changed. Raises Conflict.
        """
        spec = self._spec(service)
        if count < 0:
            raise Invalid(f"{count} pods cannot be wanted", remedy="give 0 or more")
        scene = self._scene(spec)
        found = scene.canary_template()
        if found is not None and found.revision == template.revision and scene.canary is not None:
            await self._resize(scene, scene.canary, template.revision, count)
        elif template.revision != scene.stable_revision() and count > 0:
            await self._change(spec, scene, template, count)

    async def _resize(self, scene: Scene, canary: Manifest, revision: str, count: int) -> None:
        if count > 0:
            refuse(unfit_canary(scene, canary))
        changes: dict[str, Any] = {}
        if count > 0 and (kept := keep_size(scene.stable, canary, revision)) is not None:
            changes |= kept
        if replicas_of(canary) != count:
            changes["spec"] = {"replicas": count}
        if changes:
            await self._writes.patch(DEPLOYMENTS, canary, changes)

    async def _change(self, spec: DeploymentSpec, scene: Scene, template: PodTemplate, count: int) -> None:
        """Make the canary, or let the one that Phoenix made run another revision."""
        made = made_canary(scene, template, name=spec.canary, rollout=spec.rollout.name, count=count)
        if scene.canary is None:
            await self._writes.create(DEPLOYMENTS, made)
            return
        self._refuse_foreign(scene.canary, spec)
        if must_be_anew(scene.canary, made):
            await self._writes.delete(DEPLOYMENTS, scene.canary)
            raise Conflict(f"Deployment {spec.canary} has to select pods by other labels; it is made anew")
        refuse(unfit_canary(scene, scene.canary))
        await self._writes.patch(DEPLOYMENTS, scene.canary, turned_into(scene.canary, made))

    @staticmethod
    def _refuse_foreign(found: Manifest, spec: DeploymentSpec) -> None:
        if not is_ours(found, spec.rollout.name):
            raise BadState(
                f"{name_of(found)} was not made by Phoenix for the Rollout {spec.rollout.name}",
                remedy="change it yourself, or delete it and Phoenix makes one",
            )

    async def release(self, service: str, routed: frozenset[str]) -> None:  # noqa: ARG002
        """Nothing to do: pods leave the endpoints of their Service before they are ended, and the cluster
        gives them their grace period for what is under way."""
        self._spec(service)

    @decided_again
    async def restart(self, service: str) -> None:
        """As `kubectl rollout restart` of stable and canary. The revision stays. Raises Conflict."""
        scene = self._scene(self._spec(service))
        at = self._clock.now().isoformat()
        template = {"metadata": {"annotations": {marks.RESTARTED_AT: at}}}
        for found in (scene.stable, scene.canary):
            if found is not None and replicas_of(found):
                await self._writes.patch(DEPLOYMENTS, found, {"spec": {"template": template}})

    @decided_again
    async def ensure_service(self, service: str, stable_service: str) -> str:
        """The name of the canary's own Service, made or put right from stable's.

        Raises NotFound without stable's Service or the canary, BadState where the name is taken.
        """
        spec = self._spec(service)
        scene = self._scene(spec)
        of_stable = self._watches.around.service(spec.namespace, stable_service)
        if scene.canary is None or of_stable is None:
            missing = f"Service {stable_service}" if scene.canary is not None else f"Deployment {spec.canary}"
            raise NotFound(f"there is no {missing} in namespace {spec.namespace}", remedy="apply it")
        made = canary_service(
            of_stable,
            scene.stable,
            scene.canary,
            rollout=spec.rollout.name,
            around=scene.around,
        )
        found = self._watches.around.service(spec.namespace, name_of(made))
        if found is None:
            await self._writes.create(SERVICES, made)
        else:
            self._refuse_foreign(found, spec)
            if changes := _missing(found, made):
                await self._writes.patch(SERVICES, found, changes)
        return name_of(made)

    # -- taking over and going back ----------------------------------------------------------------

    @decided_again
    async def promote(
        self, service: str, template: PodTemplate, *, expected: str, external: bool = False
    ) -> Promotion:
        """The next step of making stable run what the canary runs; call until it is `done`.

        `expected`: hash of the template stable had when the release began. `external`: a Git
        tool gives stable the template and is waited for; only where it is the same, and what it reads has
        changed, that is marked on it. Raises Conflict; BadState where the canary does not run `template`
        any more.
        """
        spec = self._spec(service)
        scene = self._scene(spec)
        found = scene.canary_template()
        if scene.canary is None or found is None or found.revision != template.revision:
            raise BadState(
                f"the canary of {spec.stable} does not run {template.revision}",
                remedy="start a release of what it runs now",
            )
        promotion = promote(
            scene.stable,
            scene.canary,
            found.runs,
            expected=expected,
            rollout=spec.rollout.name,
            around=scene.around,
        )
        if promotion.patch is None:
            return promotion
        if external and scene.stable_template().runs.template != found.runs.template:
            return Promotion(wait=f"waiting for Deployment {spec.stable} to be given {template.revision}")
        await self._writes.patch(DEPLOYMENTS, scene.stable, promotion.patch)
        return promotion

    async def history(self, service: str, latched: Collection[str] = ()) -> tuple[Kept, ...]:
        """What stable ran, as far as its ReplicaSets are kept, oldest first."""
        scene = self._scene(self._spec(service))
        return history(scene.stable, scene.replica_sets, revisions=scene.revisions(), latched=latched)

    @decided_again
    async def undo(self, service: str, to: int = 0) -> bool:
        """Put stable's template back to revision number `to`; 0: the one before. False: it is that.

        Contents of ConfigMaps and Secrets do not come back with it. Raises NotFound, BadState, Conflict.
        """
        scene = self._scene(self._spec(service))
        patch = undo(scene.stable, scene.replica_sets, to)
        if patch is not None:
            await self._writes.patch(DEPLOYMENTS, scene.stable, patch)
        return patch is not None

    async def changed_by_others(self, service: str, known: Collection[str]) -> StableChanged | None:
        """Whether somebody changed what stable runs. `known`: hashes of the templates that are expected."""
        scene = self._scene(self._spec(service))
        return changed_by_others(scene.stable, scene.replica_sets, known=known)

    def forsaken(self, uids: Collection[str]) -> Mapping[str, DeploymentSpec]:
        """Deployments that are claimed by Rollouts other than `uids`, by name."""
        everything = list(self._watches.deployments)
        found = {}
        for one in everything:
            held, namespace = holder(one), one["metadata"]["namespace"]
            if held is None or held.uid in uids:
                continue
            made = [name_of(other) for other in everything if is_ours(other, held.name)]
            canary = made[0] if made else f"{name_of(one)}{SUFFIX}"
            found[name_of(one)] = DeploymentSpec(namespace, name_of(one), canary, held)
        return found

    @decided_again
    async def leave(self, service: str) -> None:
        """Take away everything that Phoenix made and marked. First take the traffic off the canary.

        Stable is left as it is. Raises Conflict; what was deleted already stays deleted.
        """
        spec = self._spec(service)
        scene = self._scene(spec)
        for found in self._watches.around.services_for(spec.namespace, spec.rollout.name):
            if is_ours(found, spec.rollout.name):
                await self._writes.delete(SERVICES, found)
        if scene.canary is not None and is_ours(scene.canary, spec.rollout.name):
            await self._writes.delete(DEPLOYMENTS, scene.canary)
        if (given_up := unclaim(scene.stable, spec.rollout)) is not None:
            await self._writes.patch(DEPLOYMENTS, scene.stable, given_up)
        del self._declared[service]

    # -- the API server ----------------------------------------------------------------------------

    def _spec(self, service: str) -> DeploymentSpec:
        if service not in self._declared:
            known = ", ".join(sorted(self._declared)) or "none"
            raise NotFound(f"there is no service {service!r}", remedy=f"services: {known}")
        return self._declared[service]

    def _scene(self, spec: DeploymentSpec) -> Scene:
        return self._watches.scene(spec.namespace, spec.stable, spec.canary)

    async def _look(self, service: str) -> tuple[Scene, Sequence[Manifest]]:
        spec = self._spec(service)
        scene = self._scene(spec)
        return scene, await self._events.about(spec.namespace, scene.pods)


def _not_held(spec: DeploymentSpec, held: Holder | None) -> Refusal:
    by = f"is claimed by the Rollout {held.name}" if held is not None else "has lost the claim on it"
    return Refusal("NotClaimed", f"Deployment {spec.stable} {by}", "declare it again")


def _missing(found: Manifest, made: Manifest) -> dict[str, Any]:
    """What of `made` is not so in `found`; what the API server added stays."""
    changes: dict[str, Any] = {}
    for part in ("labels", "annotations"):
        wanted = made["metadata"].get(part, {})
        have = found["metadata"].get(part) or {}
        if lacking := {key: value for key, value in wanted.items() if have.get(key) != value}:
            changes.setdefault("metadata", {})[part] = lacking
    for key, value in made["spec"].items():
        have = found["spec"].get(key)
        if key == "selector" and have != value:
            changes.setdefault("spec", {})[key] = difference(have or {}, value)
        elif key != "selector" and have != value:
            changes.setdefault("spec", {})[key] = value
    return changes

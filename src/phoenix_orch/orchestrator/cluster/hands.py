"""How the rollout controller acts in a cluster: on a stable Deployment, a canary beside it, and two Services.

Stable is never scaled. The canary has the size that the machine wants. The machine's swap is a promotion in
place: stable takes the canary's template over, is waited for, and only then the traffic object changes.
Going back after that is an undo of stable's template.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from phoenix_orch.kernel.errors import BadState, NotFound
from phoenix_orch.orchestrator.cluster import picture
from phoenix_orch.orchestrator.cluster.declared import Declared, Rollouts
from phoenix_orch.orchestrator.cluster.external import awaited
from phoenix_orch.orchestrator.cluster.unsupported import unsupported
from phoenix_orch.orchestrator.cluster.view import ClusterView, canary_pods
from phoenix_orch.rollout.facts import Decision, GroupFacts, TrafficWanted
from phoenix_orch.rollout.hands import Change
from phoenix_orch.rollout.status import ACTIVE, Obstacle, Rollout, State, Status
from phoenix_orch.traffic.router import TrafficState
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.history import release_of
from phoenix_orch.workload.deployment.manifest import labels
from phoenix_orch.workload.deployment.refusal import Refusal, Refused, refuse
from phoenix_orch.workload.deployment.scene import PodTemplate
from phoenix_orch.workload.deployment.target import replicas_of
from phoenix_orch.workload.kubernetes import KubernetesWorkload
from phoenix_orch.workload.workload import WorkloadState

_LEAVING = frozenset({State.ROLLING_BACK, State.CANCELLING})


class DeploymentHands:
    """The `Hands` of one namespace."""

    def __init__(
        self,
        rollouts: Rollouts,
        view: ClusterView,
        workload: KubernetesWorkload,
        metrics: Callable[[Declared], Obstacle | None],
        route: Callable[[Declared], Refusal | None],
    ) -> None:
        """`metrics`: what is missing of those that a Rollout names. `route`: why what users call is not known
        to its checks. They ask nobody."""
        self._rollouts = rollouts
        self._view = view
        self._workload = workload
        self._metrics = metrics
        self._route = route
        self._versions: dict[str, dict[str, str]] = {}

    # -- seeing ------------------------------------------------------------------------------------

    def groups(
        self, rollout: Rollout, workload: WorkloadState | None, state: TrafficState | None
    ) -> Mapping[str, GroupFacts] | None:
        if workload is None:
            return None
        try:
            scene = self._view.scene(self._rollouts.named(rollout.name))
        except NotFound:
            return None
        return picture.counted(rollout.status, workload, canary_pods(scene), state)

    def obstacle(self, rollout: Rollout) -> Obstacle | None:
        """What the Rollout asks for and nobody would look at."""
        try:
            one = self._rollouts.named(rollout.name)
        except NotFound:
            return None
        if (refusal := unsupported(one.spec) or self._route(one)) is not None:
            return Obstacle(reason=refusal.reason, message=f"{refusal.message} ({refusal.remedy})")
        return self._metrics(one) if rollout.status.state is State.STARTING else None

    def awaits(self, rollout: Rollout) -> str:
        try:
            one = self._rollouts.named(rollout.name)
            return awaited(one.spec, rollout.status, self._view.scene(one))
        except NotFound:
            return ""

    async def version(self, rollout: Rollout, revision: str) -> str:
        """The images of its containers, as far as they have been seen."""
        if revision not in self._versions.get(rollout.name, {}):  # another process led until a moment ago
            with contextlib.suppress(NotFound):
                scene = self._view.scene(self._rollouts.named(rollout.name))
                self._learn(rollout.name, scene.stable_template(), scene.canary_template())
        return self._versions.get(rollout.name, {}).get(revision, "")

    # -- instances ---------------------------------------------------------------------------------

    def changes(
        self,
        rollout: Rollout,
        decision: Decision,
        workload: WorkloadState | None,  # noqa: ARG002 - the protocol's
        state: TrafficState | None,
    ) -> Iterator[Change]:
        if rollout.status.state in _LEAVING:
            yield Change("undo of stable", partial(self._put_stable_back, rollout))
        yield Change("size of the canary", partial(self._size_canary, rollout, decision, state))
        if rollout.status.state in ACTIVE:
            yield Change("Service of the canary", partial(self._ensure_service, rollout))

    async def _size_canary(self, rollout: Rollout, decision: Decision, state: TrafficState | None) -> None:
        scene = self._view.scene(self._rollouts.named(rollout.name))
        canary = scene.canary_template()
        self._learn(rollout.name, scene.stable_template(), canary)
        if scene.canary is None or canary is None:
            return
        present = replicas_of(scene.canary)
        wanted = canary_wanted(rollout.status, canary.revision, decision, present, state)
        carries = wanted > 0 and rollout.status.state in ACTIVE
        if carries:
            size = await self._workload.size(rollout.service, max(1, rollout.status.weight))
            wanted = max(wanted, size.pods)
        # what it is about is written on a canary that has its size already, too: a second release goes by it
        unmarked = carries and canary.revision == rollout.status.canary and not scene.kept_size()
        if wanted != present or unmarked:
            await self._workload.scale(rollout.service, canary, wanted)

    async def _ensure_service(self, rollout: Rollout) -> None:
        """The Service of the canary, unless the user has made one."""
        one = self._rollouts.named(rollout.name)
        scene = self._view.scene(one)
        if scene.canary is None:
            return
        found = self._view.service(one, one.spec.canary_service)
        if found is not None and not _made_by_phoenix(found):
            return
        made = await self._workload.ensure_service(rollout.service, one.spec.service)
        if made != one.spec.canary_service:
            raise BadState(
                f"the canary's Service is {made}, and Rollout {one.name} names {one.spec.canary_service}",
                remedy=f"set `traffic.canaryService: {made}`, or make the Service yourself",
            )

    async def _put_stable_back(self, rollout: Rollout) -> None:
        """Stable runs what is being taken back, in whole or in part: its template before comes again."""
        status, one = rollout.status, self._rollouts.named(rollout.name)
        scene = self._view.scene(one)
        if status.stable is None or scene.stable_revision() != status.canary:
            return
        kept = await self._workload.history(rollout.service)
        numbers = [entry.number for entry in kept if entry.revision == status.stable]
        if not numbers:
            raise NotFound(
                f"Deployment {rollout.service} keeps no revision {status.stable} to go back to",
                remedy="apply the manifest of the version before",
            )
        await self._workload.undo(rollout.service, numbers[-1])

    async def release(self, rollout: Rollout, state: TrafficState | None, workload: WorkloadState) -> None:
        """The cluster takes pods out of their Service before it ends them."""

    # -- traffic -----------------------------------------------------------------------------------

    async def steered(
        self,
        rollout: Rollout,
        wanted: TrafficWanted,
        state: TrafficState | None,
        workload: WorkloadState,
    ) -> TrafficState | None:
        one = self._rollouts.named(rollout.name)
        refuse(self._rollouts.refusals(one))
        if (
            rollout.status.state is State.PROMOTING
            and state is not None
            and wanted.stable != state.stable.revision
        ):
            if not await self._promoted(rollout):
                return None
            if (left := await self._workload.weight_to_leave(rollout.service)) > 0:
                wanted = _still_carrying(rollout.status, state, left)
        scene = self._view.scene(one)
        pods = canary_pods(scene)
        serves = any(pod.name in pods for pod in workload.ready(wanted.canary or ""))
        following = picture.steered(
            rollout.route,
            wanted,
            state,
            services=(one.spec.service, one.spec.canary_service),
            canary_serves=serves,
        )
        if following.weight > (state.weight if state is not None else 0):
            await self._check(one)
        return following

    async def _promoted(self, rollout: Rollout) -> bool:
        """One step of the promotion; True once stable serves the canary's revision with all its pods."""
        status, one = rollout.status, self._rollouts.named(rollout.name)
        scene = self._view.scene(one)
        canary, stable = scene.canary_template(), scene.stable_revision()
        if canary is None or canary.revision != status.canary:
            raise BadState(
                f"the canary of {rollout.service} does not run {status.canary} any more",
                remedy="put its template back, or let another release begin",
            )
        if stable not in (status.stable, status.canary):
            raise BadState(
                f"Deployment {rollout.service} was changed during the release",
                remedy="the release is aborted",
            )
        given = stable == status.canary  # by us, or by somebody else who applied the very same
        before = "" if given else scene.stable_template().runs.template
        external = one.spec.policy.promotion == "external"
        promotion = await self._workload.promote(rollout.service, canary, expected=before, external=external)
        if promotion.refusal is not None:
            raise BadState(promotion.refusal.message, remedy=promotion.refusal.remedy)
        return promotion.done

    async def _check(self, one: Declared) -> None:
        """Raises Refused where users would suffer from more weight."""
        found = await self._workload.obstacles(one.rollout.service)
        if found:
            raise Refused(found[0], before="no more weight: ")

    # -- memory ------------------------------------------------------------------------------------

    def _learn(self, name: str, *templates: PodTemplate | None) -> None:
        known = self._versions.setdefault(name, {})
        for one in templates:
            if one is not None:
                known[one.revision] = release_of(one.manifest)

    def keep(self, rollout: Rollout, decision: Decision, workload: WorkloadState | None) -> None:  # noqa: ARG002
        status = rollout.status
        needed = {status.stable, status.canary, status.previous, rollout.target}
        known = self._versions.get(rollout.name, {})
        self._versions[rollout.name] = {one: said for one, said in known.items() if one in needed}

    def forget(self, name: str) -> None:
        self._versions.pop(name, None)


def canary_wanted(
    status: Status, runs: str, decision: Decision, present: int, state: TrafficState | None
) -> int:
    """Pods that the canary's Deployment, which runs `runs` in `present` pods, should have. Pure.

    It grows only for the release that is under way. Where it runs what nobody has asked Phoenix about yet
    it is left alone; where it runs what stable runs it goes, once no request is sent to it (R5).
    """
    if runs == status.canary and status.state in ACTIVE:
        wanted = decision.instances.get(runs, 0)
        # from the swap on all pods count as the new revision's, stable's among them
        swapped = state is not None and state.stable.revision == runs
        return min(present, wanted) if swapped else wanted
    if runs == status.canary:
        return min(present, decision.instances.get(runs, 0))
    if runs == status.stable and state is not None and not state.drifted and state.canary is None:
        return 0
    return present


def _still_carrying(status: Status, state: TrafficState, weight: int) -> TrafficWanted:
    """The canary keeps a part of the traffic for a moment: stable cannot carry all of it yet."""
    return TrafficWanted(stable=state.stable.revision, canary=status.canary, weight=min(state.weight, weight))


def _made_by_phoenix(found: Mapping[str, object]) -> bool:
    return labels(found).get(marks.MANAGED_BY) == marks.MANAGER

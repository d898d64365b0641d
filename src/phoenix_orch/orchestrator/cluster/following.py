"""Turns what people do to Deployments into what is wanted of a Rollout, and keeps the claim on stable.

`kubectl apply -f k8s/canary/deployment.yaml` is a release, `kubectl rollout undo` an abort or a return. What
follows from what is in `wish.py`; here it is looked at and written down, conditionally.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta

import structlog

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import Conflict, NotFound, PhoenixError
from phoenix_orch.kube.resources import Key
from phoenix_orch.orchestrator.cluster.declared import Declared, Rollouts
from phoenix_orch.orchestrator.cluster.forsaken import Forsaken
from phoenix_orch.orchestrator.cluster.leaving import Leaving
from phoenix_orch.orchestrator.cluster.stalls import Stalls
from phoenix_orch.orchestrator.cluster.swept import Swept
from phoenix_orch.orchestrator.cluster.view import ClusterView
from phoenix_orch.orchestrator.cluster.wish import Standing, Wish, wish
from phoenix_orch.rollout.passes import BREATH, Passes
from phoenix_orch.rollout.status import RESTING, Command, CommandKind, Event, Rollout, State
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.manifest import annotation
from phoenix_orch.workload.deployment.refusal import refuse
from phoenix_orch.workload.deployment.scene import Scene
from phoenix_orch.workload.deployment.size import kept_size
from phoenix_orch.workload.deployment.target import holder, replicas_of
from phoenix_orch.workload.kubernetes import KubernetesWorkload
from phoenix_orch.workload.kubernetes_objects import Watches

LOOK = timedelta(seconds=1)
"""Between two looks without a change, as long as they are few. They ask the API server nothing."""
ACTOR = "kubernetes"
_WHY = {
    CommandKind.ABORT: "stable's pod template was changed during the release",
    CommandKind.END_BAKE: "stable's pod template was changed during the bake",
}


class Following:
    """`run` until cancelled."""

    def __init__(
        self,
        store: RolloutStore,
        rollouts: Rollouts,
        view: ClusterView,
        workload: KubernetesWorkload,
        *,
        watches: Watches,
        leaving: Leaving,
        forsaken: Forsaken,
        swept: Swept,
        stalls: Stalls,
        clock: Clock,
        changed: Callable[[str], None],
    ) -> None:
        """`changed` is called with the name of a Rollout when something was written."""
        self._store = store
        self._rollouts = rollouts
        self._view = view
        self._workload = workload
        self._leaving = leaving
        self._forsaken = forsaken
        self._swept = swept
        self._stalls = stalls
        self._clock = clock
        self._changed = changed
        self._faults = Faults(structlog.get_logger("phoenix.rollouts"))
        self._passes = Passes(self._names, self._guarded, self._is_quiet)
        self._watches = watches

    def wake(self, name: str) -> None:
        """Look at this Rollout now: it was changed."""
        self._passes.wake(name)

    def _deployment_changed(self, key: Key) -> None:
        for name in self._rollouts.of_deployment(key.name):
            self._passes.wake(name)

    async def run(self) -> None:
        unsubscribe = self._watches.deployments.subscribe(self._deployment_changed)
        try:
            await self._passes.run()
        finally:
            unsubscribe()

    async def _names(self) -> list[str]:
        there, uids = self._rollouts.all(), self._rollouts.uids()
        await self._leaving.look(there, uids)
        if not self._forsaken.done:
            await self._forsaken.look(uids, {one.rollout.service for one in there})
        await self._swept.look(uids)
        return [one.name for one in there]

    def _is_quiet(self, name: str) -> bool:
        """No release is on its way, and the canary wants no pods, which would ask for one."""
        try:
            one = self._rollouts.named(name)
        except NotFound:
            return True
        canary = self._watches.deployments.get(one.spec.canary_name, one.namespace)
        resting = one.rollout.status.state in RESTING | {State.INITIALIZING}
        return resting and (canary is None or replicas_of(canary) == 0)

    async def _guarded(self, name: str) -> timedelta:
        hindered: PhoenixError | None = None
        try:
            await self.look(self._rollouts.named(name))
        except Conflict:
            return BREATH  # decided on old knowledge
        except PhoenixError as error:
            self._faults.tell(name, "following", error=error)
            hindered = error
        except Exception as error:  # noqa: BLE001 - a defect in one must not keep the others waiting
            self._faults.tell(name, "following", error=error, unforeseen=True)
        else:
            self._faults.mended(name, "following")
        with contextlib.suppress(NotFound):  # it was deleted meanwhile
            await self._stalls.tell(self._rollouts.named(name), hindered)
        return LOOK

    async def look(self, one: Declared) -> None:
        """Look at one Rollout once. Raises PhoenixError."""
        refuse(self._rollouts.refusals(one))
        scene = self._view.scene(one)
        held = holder(scene.stable)
        gone = (held.uid,) if held is not None and held.uid not in self._rollouts.uids() else ()
        await self._workload.declare(one.rollout.service, one.deployment(), gone=gone)
        found, replicas = standing(scene), await self._replicas(one)
        if not _asks(one.rollout, wish(one.rollout.status, one.rollout.target, found), replicas):
            return
        rollout = await self._store.get(one.name)
        await self._write(rollout, wish(rollout.status, rollout.target, found), replicas)
        self._changed(one.name)

    async def _replicas(self, one: Declared) -> int:
        return max(1, (await self._workload.size(one.rollout.service, 100)).pods)

    async def _write(self, rollout: Rollout, wanted: Wish, replicas: int) -> None:
        if wanted.adopt is not None:
            rollout = await self._adopt(rollout, wanted.adopt)
        if (rollout.target, rollout.replicas) != (wanted.target, replicas):
            rollout = await self._store.put(
                rollout.model_copy(update={"target": wanted.target, "replicas": replicas})
            )
        if wanted.say is not None:
            await self._store.command(rollout.name, self._command(rollout, wanted.say))

    async def _adopt(self, rollout: Rollout, revision: str) -> Rollout:
        message = f"stable runs {revision} now: it was changed past Phoenix"
        event = Event(
            at=self._clock.now(),
            reason="StableChanged",
            message=message,
            revision=revision,
            release=rollout.status.release,
            actor=ACTOR,
        )
        status = rollout.status.model_copy(update={"stable": revision, "message": message})
        return await self._store.save(rollout, status, events=[event])

    def _command(self, rollout: Rollout, kind: CommandKind) -> Command:
        """The same however often it is said of one release."""
        return Command(
            id=f"{kind.value}-{rollout.status.release}-by-hand",
            kind=kind,
            actor=ACTOR,
            at=self._clock.now(),
            reason=_WHY.get(kind, ""),
        )


def standing(scene: Scene) -> Standing:
    """What the two Deployments say.

    A manifest without `replicas`, applied for a second release, finds the zero of the end of the first one:
    Phoenix wrote that, and wrote on the canary which revision it was about.
    """
    canary = scene.canary_template()
    if scene.canary is None or canary is None:
        return Standing(scene.stable_revision())
    sized_before = annotation(scene.canary, marks.FULL_SIZE) is not None
    new = sized_before and not kept_size(scene.canary, canary.revision)
    return Standing(scene.stable_revision(), canary.revision, replicas_of(scene.canary) > 0 or new)


def _asks(rollout: Rollout, wanted: Wish, replicas: int) -> bool:
    """Something is different from what is written."""
    if wanted.adopt is not None or (rollout.target, rollout.replicas) != (wanted.target, replicas):
        return True
    known = {command.kind for command in rollout.commands}
    return wanted.say is not None and wanted.say not in known

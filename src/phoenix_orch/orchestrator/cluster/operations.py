"""What people and programs may ask of Phoenix in a cluster: the operations port over its objects.

Any replica answers, whether it leads or not. What is read comes from the watches of this process and from the
log; what is changed is looked at anew at the API server and written there, and needs nobody who leads: a word
is in the Rollout for the orchestrator to obey, and an abort goes straight to what carries the weight.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from phoenix_orch.health_validator.observation import Observation
from phoenix_orch.kernel.errors import BadState, Invalid, NotFound
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.orchestrator.cluster import looking, person, starting
from phoenix_orch.orchestrator.cluster.freezing import flow_of, through_freeze
from phoenix_orch.orchestrator.cluster.reach import Found, Reach, Sight
from phoenix_orch.orchestrator.cluster.restarting import restart
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.flow import Flow
from phoenix_orch.orchestrator.kept_answers import KeptAnswers
from phoenix_orch.orchestrator.views import (
    Change,
    LogPage,
    RolloutEvent,
    RolloutView,
    ServiceView,
    of_rollout,
)
from phoenix_orch.rollout.status import Command, CommandKind, Event, Release, Revision
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.tasks.port import Tasks
from phoenix_orch.workload.deployment.history import release_of
from phoenix_orch.workload.deployment.target import replicas_of


class Changes(Protocol):
    """Tells of rollouts that change."""

    def __call__(self, *, timeout: timedelta) -> AsyncIterator[str]:
        """Names as they change; an empty one at least every `timeout`."""
        ...


class ClusterOperations:
    """Implements the operations port for one namespace."""

    def __init__(
        self,
        client: KubeClient,
        sight: Sight,
        log: RolloutStore,
        *,
        info: Callable[[], Awaitable[dict[str, Any]]],
        changes: Changes,
        tasks: Tasks,
        answers: KeptAnswers,
    ) -> None:
        """`client` changes what `sight` shows, and `changes` tells of. Tasks and answers: of all replicas."""
        self._client = client
        self._sight = sight
        self._log = log
        self._info = info
        self._changes = changes
        self.tasks = tasks
        self.answers = answers

    @property
    def flow(self) -> Flow:
        return flow_of(self._reach(""))

    # -- reading -----------------------------------------------------------------------------------

    async def info(self) -> dict[str, Any]:
        return await self._info()

    async def config(self) -> PhoenixFile | None:
        """What is wanted stands in the cluster's objects."""
        return None

    async def views(self, *, after: str = "", limit: int | None = None) -> list[RolloutView]:
        found = await looking.views(self._sight)
        return [view for view in found if view.rollout.name > after][:limit]

    async def view(self, name: str) -> RolloutView:
        return await looking.view(self._sight, name, pods=True)

    async def events(self, name: str, limit: int) -> list[Event]:
        return await looking.events(self._sight, name, limit=limit)

    async def all_events(self, limit: int) -> list[RolloutEvent]:
        found: list[RolloutEvent] = []
        for one in await self._sight.rollouts():
            name = one.one.rollout.name
            found += [of_rollout(event, name) for event in await self.events(name, limit)]
        return sorted(found, key=lambda event: event.at)[-limit:]

    async def history(self, name: str, limit: int) -> list[Release]:
        return await looking.history(self._sight, name, limit=limit)

    async def revisions(self, name: str) -> list[Revision]:
        return await looking.revisions(self._sight, name)

    async def observations(self, name: str, since: datetime | None, limit: int) -> list[Observation]:
        return await looking.observations(self._sight, name, since=since, limit=limit)

    async def services(self) -> list[ServiceView]:
        return [await self._service(found) for found in await self._sight.rollouts()]

    async def service(self, name: str) -> ServiceView:
        return await self._service(await self._of_service(name))

    async def _service(self, found: Found) -> ServiceView:
        """One that has no Deployment is shown, too: with nothing that runs."""
        rollout, status = found.one.rollout, found.one.rollout.status
        shown = ServiceView(
            name=rollout.service,
            version="",
            revision=status.stable or rollout.target,
            replicas=0,
            ready=0,
            route=rollout.route,
            rollout=rollout.name,
        )
        try:
            scene = await self._sight.scene(found.one)
        except NotFound:
            return shown
        workload = scene.state(rollout.service, datetime.now(UTC))
        return shown.model_copy(
            update={
                "version": release_of(scene.stable["spec"]["template"]),
                "replicas": replicas_of(scene.stable),
                "ready": len(workload.ready(shown.revision)),
                "workload": workload,
            }
        )

    async def _of_service(self, name: str) -> Found:
        found = await self._sight.rollouts()
        for one in found:
            if one.one.rollout.service == name:
                return one
        known = ", ".join(one.one.rollout.service for one in found) or "none"
        raise NotFound(f"no Rollout releases a Deployment {name!r}", remedy=f"those released: {known}")

    async def logs(self, name: str, *, instance: str | None, lines: int, after: dict[str, int]) -> LogPage:  # noqa: ARG002
        """Raises BadState: what pods write is the cluster's, which has its own rights for it."""
        found = await self._of_service(name)
        what = instance or f"deployment/{found.one.spec.workload.name}"
        raise BadState(
            "what pods write is kept by the cluster",
            remedy=f"kubectl logs --namespace {self._client.namespace} --tail {lines} {what}",
        )

    async def changes(self, *, timeout: timedelta) -> AsyncGenerator[str]:  # noqa: ASYNC109 - the port's word
        async for name in self._changes(timeout=timeout):
            yield name

    # -- changing ----------------------------------------------------------------------------------

    async def apply(
        self,
        config: PhoenixFile,  # noqa: ARG002
        *,
        actor: str,  # noqa: ARG002
        dry_run: bool,  # noqa: ARG002
        even_if_unattainable: bool = False,  # noqa: ARG002
    ) -> list[Change]:
        """Raises BadState: in a cluster its own objects say what is wanted."""
        raise BadState(
            "in a cluster Deployments and Rollouts say what is wanted, and no phoenix.yaml",
            remedy="kubectl apply -f FILE",
        )

    async def start(
        self,
        name: str,
        *,
        version: str | None,
        env: dict[str, str] | None,
        command: tuple[str, ...] | None,
        change_cause: str,
        actor: str,
        dry_run: bool,
        even_if_unattainable: bool = False,
        override_freeze: bool = False,
    ) -> Change:
        """`version`: the image, or `CONTAINER=IMAGE,…`. Raises BadState for what else a template has."""
        if env or command is not None:
            raise BadState(
                "in a cluster a release begins with other images; env and command are in the pod template",
                remedy="kubectl apply -f k8s/canary/deployment.yaml, with a canary of your own",
            )
        return await starting.start(
            self._reach(actor),
            name,
            images_of(version or ""),
            reason=_signed(change_cause, actor),
            dry_run=dry_run,
            even_if_unattainable=even_if_unattainable,
            override_freeze=override_freeze,
        )

    async def undo(
        self, name: str, *, to_revision: int | None, actor: str, reason: str, dry_run: bool
    ) -> Change:
        return await starting.go_back(
            self._reach(actor), name, to_revision=to_revision, reason=reason, dry_run=dry_run
        )

    async def command(
        self,
        name: str,
        kind: CommandKind,
        *,
        actor: str,
        reason: str,
        step: int | None = None,
        override_freeze: bool = False,
    ) -> Command:
        """An abort is obeyed when this returns; every other word at the orchestrator's next pass."""
        there, command = self._reach(actor), person.word(actor, kind, reason, step)
        if kind is CommandKind.ABORT:
            await person.abort_by(there, name, command)
            return command
        if kind is CommandKind.RETRY:
            rollout = (await there.rollout(name)).one.rollout
            await person.give(there, name, command, dry_run=True)
            await through_freeze(
                there,
                rollout,
                rollout.target,
                reason=reason,
                actor=actor,
                override=override_freeze,
                dry_run=False,
            )
        await person.give(there, name, command)
        return command

    async def restart(self, name: str, *, actor: str, dry_run: bool = False) -> None:
        there, named = self._reach(actor), (await self._of_service(name)).one.name
        await restart(there, await there.rollout(named), dry_run=dry_run)

    def _reach(self, actor: str) -> Reach:
        return Reach(self._client, self._log, actor)


def images_of(version: str) -> Mapping[str, str]:
    """Images by container; `""` is the only container there is. Raises Invalid. Pure."""
    found: dict[str, str] = {}
    for part in version.split(","):
        container, equals, image = part.strip().rpartition("=")
        if not image or (equals and not container) or container in found:
            raise Invalid(
                f"{version!r} names no images",
                remedy="give the image as the version, or CONTAINER=IMAGE,CONTAINER=IMAGE",
            )
        found[container] = image
    return found


def _signed(reason: str, actor: str) -> str:
    """The cluster's own records name the pod that wrote, and not for whom."""
    return f"{reason} (by {actor})" if reason else f"by {actor}"

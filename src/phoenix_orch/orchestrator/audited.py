"""The operations port with a record of whatever changes something: who asked what, and what came of it.

What is asked is in the audit log before it is done, and its outcome before success is told. What takes a
release back or holds it waits for no record (rule R2). A dry run changes nothing and leaves none.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from phoenix_orch.health_validator.observation import Observation
from phoenix_orch.orchestrator.audited_flow import AuditedFlow
from phoenix_orch.orchestrator.audited_tasks import AuditedTasks
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.differing import differing
from phoenix_orch.orchestrator.flow import Flow
from phoenix_orch.orchestrator.kept_answers import KeptAnswers
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.orchestrator.views import Change, LogPage, RolloutEvent, RolloutView, ServiceView
from phoenix_orch.rollout.status import Command, CommandKind, Event, Release, Revision
from phoenix_orch.security.recorder import Recorder

URGENT = frozenset({CommandKind.ABORT, CommandKind.PAUSE})
"""Words that are obeyed whatever becomes of their record. So is `undo`, which aborts what is on its way."""

Standing = Callable[[str], Awaitable[Mapping[str, Any] | None]]
"""Where a rollout stands, as plain data; None where that cannot be read."""


class AuditedOperations:
    """Implements the operations port on another one."""

    def __init__(
        self,
        operations: Operations,
        recorder: Recorder,
        *,
        standing: Standing,
        applied: Callable[[], PhoenixFile | None],
    ) -> None:
        """`applied`: the configuration that was applied last."""
        self._operations = operations
        self._recorder = recorder
        self._standing = standing
        self._applied = applied
        self._flow = AuditedFlow(operations.flow, recorder)
        self.tasks = AuditedTasks(operations.tasks, recorder)

    # -- what changes something --------------------------------------------------------------------

    async def apply(
        self, config: PhoenixFile, *, actor: str, dry_run: bool, even_if_unattainable: bool = False
    ) -> list[Change]:
        async def apply() -> list[Change]:
            return await self._operations.apply(
                config, actor=actor, dry_run=dry_run, even_if_unattainable=even_if_unattainable
            )

        if dry_run:
            return await apply()
        before, after = differing(self._applied(), config)
        asked = self._recorder.acting("config.apply", "config", actor=actor, before=before, after=after)
        async with asked as act:
            changes = await apply()
            act.after = changes
        return changes

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
        async def start() -> Change:
            return await self._operations.start(
                name,
                version=version,
                env=env,
                command=command,
                change_cause=change_cause,
                actor=actor,
                dry_run=dry_run,
                even_if_unattainable=even_if_unattainable,
                override_freeze=override_freeze,
            )

        if dry_run:
            return await start()
        wanted: dict[str, Any] = {
            "version": version,
            "env": env,
            "command": command,
            "evenIfUnattainable": even_if_unattainable,
            "overrideFreeze": override_freeze,
        }
        asked = self._recorder.acting(
            "rollout.start",
            _rollout(name),
            actor=actor,
            reason=change_cause,
            before=await self._standing(name),
            after={key: value for key, value in wanted.items() if value},
        )
        async with asked as act:
            act.after = change = await start()
        return change

    async def undo(
        self, name: str, *, to_revision: int | None, actor: str, reason: str, dry_run: bool
    ) -> Change:
        async def undo() -> Change:
            return await self._operations.undo(
                name, to_revision=to_revision, actor=actor, reason=reason, dry_run=dry_run
            )

        if dry_run:
            return await undo()
        asked = self._recorder.acting(
            "rollout.undo",
            _rollout(name),
            actor=actor,
            reason=reason,
            after={"toRevision": to_revision} if to_revision is not None else None,
            urgent=True,
        )
        async with asked as act:
            act.after = change = await undo()
        return change

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
        urgent = kind in URGENT
        wanted = {"step": step, "overrideFreeze": override_freeze or None}
        asked = self._recorder.acting(
            f"rollout.{kind.value}",
            _rollout(name),
            actor=actor,
            reason=reason,
            before=None if urgent else await self._standing(name),
            after={key: value for key, value in wanted.items() if value is not None} or None,
            urgent=urgent,
        )
        async with asked as act:
            command = await self._operations.command(
                name, kind, actor=actor, reason=reason, step=step, override_freeze=override_freeze
            )
            act.after = command.model_dump(mode="json", by_alias=True, include={"id", "step", "revision"})
        return command

    async def restart(self, name: str, *, actor: str, dry_run: bool = False) -> None:
        if dry_run:
            await self._operations.restart(name, actor=actor, dry_run=True)
            return
        async with self._recorder.acting("service.restart", f"service/{name}", actor=actor):
            await self._operations.restart(name, actor=actor)

    # -- reads -------------------------------------------------------------------------------------

    @property
    def flow(self) -> Flow:
        return self._flow

    @property
    def answers(self) -> KeptAnswers:
        return self._operations.answers

    async def info(self) -> dict[str, Any]:
        return await self._operations.info()

    async def config(self) -> PhoenixFile | None:
        return await self._operations.config()

    async def views(self, *, after: str = "", limit: int | None = None) -> list[RolloutView]:
        return await self._operations.views(after=after, limit=limit)

    async def view(self, name: str) -> RolloutView:
        return await self._operations.view(name)

    async def events(self, name: str, limit: int) -> list[Event]:
        return await self._operations.events(name, limit)

    async def all_events(self, limit: int) -> list[RolloutEvent]:
        return await self._operations.all_events(limit)

    async def history(self, name: str, limit: int) -> list[Release]:
        return await self._operations.history(name, limit)

    async def revisions(self, name: str) -> list[Revision]:
        return await self._operations.revisions(name)

    async def observations(self, name: str, since: datetime | None, limit: int) -> list[Observation]:
        return await self._operations.observations(name, since, limit)

    async def services(self) -> list[ServiceView]:
        return await self._operations.services()

    async def service(self, name: str) -> ServiceView:
        return await self._operations.service(name)

    async def logs(self, name: str, *, instance: str | None, lines: int, after: dict[str, int]) -> LogPage:
        return await self._operations.logs(name, instance=instance, lines=lines, after=after)

    def changes(self, *, timeout: timedelta) -> AsyncGenerator[str]:
        return self._operations.changes(timeout=timeout)


def _rollout(name: str) -> str:
    return f"rollout/{name}"

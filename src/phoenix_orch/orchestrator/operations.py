"""What people and programs may ask of a running Phoenix. The API and the command line add nothing to it.

Reads never change anything. Whatever changes something checks all of it first, so that a refusal
leaves everything as it was, and with `dry_run` tells what it would do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import BadState, Conflict, Invalid, NotFound, Retryable
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.orchestrator import names
from phoenix_orch.orchestrator.applying import Applying
from phoenix_orch.orchestrator.attainable import refuse_unattainable
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.flow import Book, Declared, Flow, Records, declared_rules
from phoenix_orch.orchestrator.kept_answers import KeptAnswers, MemoryAnswers
from phoenix_orch.orchestrator.reading import Logs, Reading, or_none
from phoenix_orch.orchestrator.targets import refuse_target
from phoenix_orch.orchestrator.views import (
    Change,
    ChangeKind,
)
from phoenix_orch.rollout.commands import refusal, remedy, typed
from phoenix_orch.rollout.status import (
    ACTIVE,
    Command,
    CommandKind,
    Event,
    Revision,
    Rollout,
    State,
    under_judgement,
)
from phoenix_orch.rollout.store.store import PagedStore
from phoenix_orch.tasks.port import Tasks
from phoenix_orch.traffic.router import TrafficRouter
from phoenix_orch.workload.spec import Template, refuse_unfit
from phoenix_orch.workload.workload import Workload

T = TypeVar("T")

PUT_TRIES = 5
"""Tries of a conditional write of what is wanted; the controller writes the same record."""


class OrchestratorOperations(Reading):
    """Implements the operations port on the stores and routers of this process."""

    def __init__(
        self,
        *,
        store: PagedStore,
        router: TrafficRouter,
        workload: Workload,
        clock: Clock,
        applying: Applying,
        logs: Logs,
        wake: Callable[[], None],
        info: Callable[[], Awaitable[dict[str, Any]]],
        speed: float = 1.0,
        faults: Callable[[str], Mapping[str, Exception]] = lambda _: {},
        book: Book,
        tasks: Tasks,
        answers: KeptAnswers | None = None,
    ) -> None:
        """`book`: where words about freezes are kept. `answers`: left out, they last as long as this."""
        super().__init__(
            store=store,
            router=router,
            workload=workload,
            clock=clock,
            addresses=applying,
            logs=logs,
            info=info,
            speed=speed,
            faults=faults,
        )
        self.tasks = tasks
        self._workload = workload
        self._applying = applying
        self._wake = wake
        self._changing = asyncio.Lock()
        self.answers = answers or MemoryAnswers()
        self.flow = Flow(
            book, self._rules, Records(store.rollouts, self.history, self.revisions, self._tell), clock
        )

    async def config(self) -> PhoenixFile | None:
        return self._applying.config

    async def recover(self) -> None:
        """Found anew the rollouts that the store has lost, if there are any."""
        async with self._changing:
            found = await self._applying.recover()
        if found:
            self._wake()

    async def apply(
        self, config: PhoenixFile, *, actor: str, dry_run: bool, even_if_unattainable: bool = False
    ) -> list[Change]:
        async with self._changing:
            changes = await self._applying.apply(
                config, actor=actor, dry_run=dry_run, even_if_unattainable=even_if_unattainable
            )
        self._wake()
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
        """Release stable's template with another version, environment or command."""
        async with self._changing:
            rollout = await names.rollout(self._store, name)
            base = await self._revision(rollout, rollout.status.stable or rollout.target)
            changed = dict(base.template)
            if version is not None:
                changed["version"] = version
            if env:
                changed["env"] = {**changed.get("env", {}), **env}
            if command is not None:
                changed["command"] = list(command)
            template = _template(changed)
            refuse_unfit(env or {}, command or ())
            target = template.revision
            if target == rollout.status.stable:
                raise BadState(
                    f"{name} would be the same as what is stable",
                    remedy="change the version, the environment or the command",
                )
            await self._refuse_target(rollout, target)
            if not even_if_unattainable:
                await refuse_unattainable(self._store, self._clock, rollout, rollout.spec)
            again = f"phoenix rollout start {name} --version {template.version}"
            await self._through_freeze(
                rollout, target, again, change_cause, actor, override=override_freeze, dry_run=dry_run
            )
            if not dry_run:
                await self._keep_revision(rollout.name, template, change_cause or f"started by {actor}")
                await self._wanting(rollout, {"target": target, "fast": False})
                why = f": {change_cause}" if change_cause else ""
                await self._tell(rollout, "Start", f"version {template.version} is wanted{why}", actor)
        self._wake()
        return Change(
            kind=ChangeKind.RELEASE,
            target=f"rollout/{name}",
            detail=f"version {template.version} is released step by step",
            revision=target,
            version=template.version,
        )

    async def undo(
        self, name: str, *, to_revision: int | None, actor: str, reason: str, dry_run: bool
    ) -> Change:
        """Go back: in the middle of a release that is an abort, at rest the revision before returns."""
        async with self._changing:
            rollout = await names.rollout(self._store, name)
            if rollout.status.state in ACTIVE or rollout.status.state is State.BAKING:
                return await self._undo_by_abort(rollout, to_revision, actor, reason, dry_run=dry_run)
            if to_revision is None and rollout.status.state in {State.ROLLING_BACK, State.CANCELLING}:
                raise BadState(
                    f"{name} is going back already; undo now would go back one more",
                    remedy=f"phoenix rollout watch {name}, or name the revision with --to-revision",
                )
            if to_revision is None and rollout.status.state is State.ROLLED_BACK:
                raise await self._taken_back_already(rollout)
            goal = await self._earlier(rollout, to_revision)
            await self._refuse_target(rollout, goal.revision)
            now = await self._revision(rollout, rollout.status.stable or rollout.target)
            if not dry_run:
                await self._wanting(rollout, {"target": goal.revision, "fast": True})
                await self._tell(rollout, "Undo", f"back to revision {goal.number}: {reason or actor}", actor)
        self._wake()
        return Change(
            kind=ChangeKind.RELEASE,
            target=f"rollout/{name}",
            detail=f"from {_named(now)} to {_named(goal)}: at full size in one step, without phases",
            revision=goal.revision,
            version=goal.version,
        )

    async def _taken_back_already(self, rollout: Rollout) -> BadState:
        """What went wrong is undone: who says undo now would lose a good version as well, in one step."""
        status, name = rollout.status, rollout.name
        bad = await self._revision(rollout, status.canary or rollout.target)
        serves = await self._revision(rollout, status.stable or "")
        try:
            goal = await self._earlier(rollout, None)
        except (BadState, NotFound):
            remedy = f"phoenix get revisions {name} lists what there is"
        else:
            remedy = (
                f"phoenix rollout undo {name} --to-revision {goal.number} takes everybody from "
                f"{_named(serves)} to {_named(goal)} in one step"
            )
        return BadState(
            f"{_named(bad)} of {name} was taken back already and {_named(serves)} serves; "
            "undo would go back one more",
            remedy=remedy,
        )

    async def _undo_by_abort(
        self, rollout: Rollout, to_revision: int | None, actor: str, reason: str, *, dry_run: bool
    ) -> Change:
        self._refuse_command(rollout, CommandKind.ABORT)
        status = rollout.status
        back = status.previous if status.state is State.BAKING else status.stable
        kept = await self._revision(rollout, back or "")
        if to_revision not in (None, kept.number):
            raise BadState(
                f"{rollout.name} is {status.state.value}; undo goes back to revision {kept.number} now",
                remedy=f"phoenix rollout abort {rollout.name}, then undo --to-revision {to_revision}",
            )
        word = "would be" if dry_run else "is"
        if not dry_run:
            await self._command(rollout, CommandKind.ABORT, actor=actor, reason=reason or "undo")
        return Change(
            kind=ChangeKind.RELEASE,
            target=f"rollout/{rollout.name}",
            detail=f"the release under way {word} aborted; revision {kept.number} serves then",
            revision=kept.revision,
            version=kept.version,
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
        rollout = await names.rollout(self._store, name)
        self._refuse_command(rollout, kind, step)
        if kind is CommandKind.RETRY:
            again = f"phoenix rollout retry {name}"
            await self._through_freeze(
                rollout, rollout.target, again, reason, actor, override=override_freeze, dry_run=False
            )
        return await self._command(rollout, kind, actor=actor, reason=reason, step=step)

    async def _through_freeze(
        self,
        rollout: Rollout,
        revision: str,
        again: str,
        reason: str,
        actor: str,
        *,
        override: bool,
        dry_run: bool,
    ) -> None:
        """Raises BadState in a freeze that nobody sets aside. `again`: what was said, for the remedy."""
        if override:
            await self.flow.override(rollout, revision, reason=reason, actor=actor, dry_run=dry_run)
        else:
            await self.flow.refuse_frozen(rollout.name, again)

    async def _command(
        self, rollout: Rollout, kind: CommandKind, *, actor: str, reason: str, step: int | None = None
    ) -> Command:
        self._refuse_command(rollout, kind, step)
        if kind is CommandKind.PROMOTE:
            step = rollout.status.step  # it skips this one, and none that begins before it is obeyed
        now, meant = self._clock.now(), ""
        if kind is CommandKind.ABORT:
            meant = under_judgement(rollout.status) or ""
        command = Command(
            id=sortable_id(now), kind=kind, actor=actor, at=now, reason=reason, step=step, revision=meant
        )
        await self._store.command(rollout.name, command)
        self._wake()
        return command

    def _refuse_command(self, rollout: Rollout, kind: CommandKind, step: int | None = None) -> None:
        why_not = refusal(rollout.status, kind, step)
        if why_not is not None:
            raise BadState(
                f"cannot {typed(kind)} {rollout.name}: {why_not}",
                remedy=remedy(rollout.status, kind, rollout.name),
            )

    async def restart(self, name: str, *, actor: str, dry_run: bool = False) -> None:
        """Replace the instances of a service one after another; with `dry_run` only refuse what would be
        refused."""
        rollout = await names.rollout_of(self._store, name)
        if rollout.status.state in ACTIVE:
            raise BadState(
                f"{rollout.name} is being released; a restart would spoil its evidence",
                remedy="wait for the release to end, or abort it",
            )
        if dry_run:
            return
        await self._workload.restart(name)
        await self._tell(rollout, "Restart", f"instances of {name} are replaced one by one", actor)

    # -- pieces ------------------------------------------------------------------------------------

    async def _rules(self) -> Declared:
        return declared_rules(self._applying.ruling)

    async def _tell(self, rollout: Rollout, reason: str, message: str, actor: str) -> None:
        event = Event(
            at=self._clock.now(),
            reason=reason,
            message=message,
            revision=rollout.target,
            release=rollout.status.release,
            actor=actor,
        )
        await self._store.append_events(rollout.name, [event])

    async def _revision(self, rollout: Rollout, revision: str) -> Revision:
        for kept in await self._store.revisions(rollout.name):
            if kept.revision == revision:
                return kept
        raise NotFound(
            f"revision {revision} of {rollout.name} is not kept any more",
            remedy=f"phoenix get revisions {rollout.name} lists those that are",
        )

    async def _earlier(self, rollout: Rollout, number: int | None) -> Revision:
        """The revision to go back to: by its number, or the one that stable replaced."""
        kept = await self._store.revisions(rollout.name)
        if number is not None:
            for revision in kept:
                if revision.number == number:
                    return revision
            known = ", ".join(str(revision.number) for revision in kept)
            raise NotFound(f"{rollout.name} has no revision {number}", remedy=f"revisions: {known}")
        for release in await self._store.history(rollout.name):
            if release.revision == rollout.status.stable and release.replaced is not None:
                return await self._revision(rollout, release.replaced)
        raise BadState(
            f"{rollout.name} has had no other stable revision to go back to",
            remedy=f"phoenix get revisions {rollout.name}, then undo --to-revision N",
        )

    async def _refuse_target(self, rollout: Rollout, target: str) -> None:
        traffic = await or_none(self._router.read(rollout.route))
        refuse_target(rollout, traffic.aborted if traffic is not None else (), target)

    async def _keep_revision(self, name: str, template: Template, cause: str) -> Revision:
        return await self._store.add_revision(
            name,
            Revision(
                revision=template.revision,
                number=0,
                version=template.version,
                at=self._clock.now(),
                change_cause=cause,
                template=template.model_dump(mode="json", by_alias=True),
            ),
        )

    async def _wanting(self, rollout: Rollout, changes: Mapping[str, object]) -> None:
        """Write what is wanted; the controller writes the same record, so conflicts are expected."""
        for _ in range(PUT_TRIES):
            try:
                await self._store.put(rollout.model_copy(update=dict(changes)))
            except Conflict:
                rollout = await self._store.get(rollout.name)
            else:
                return
        raise Retryable(
            f"{rollout.name} is being written by others all the time", remedy="try the same again"
        )


def _named(revision: Revision) -> str:
    return f"revision {revision.number}, version {revision.version}"


def _template(fields: Mapping[str, object]) -> Template:
    """Raises Invalid without repeating the environment, which may hold secrets."""
    try:
        return Template.model_validate(fields)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise Invalid(
            f"that is no program to run: {faults}",
            remedy="a version is made of letters, digits and . _ + -; a command holds {port}",
        ) from None

"""When releases may begin, as people see and steer it: freezes, groups, and the numbers of delivery.

The same on one machine and in a cluster; what differs is where things are kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from pydantic import ValidationError

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import BadState, Invalid, NotFound
from phoenix_orch.orchestrator.flow_views import FreezeView, GroupView, Member, OverrideView
from phoenix_orch.rollout import dora
from phoenix_orch.rollout.dora import DoraReport
from phoenix_orch.rollout.freezes import Freeze, OpenFreeze, UnderWay, frozen
from phoenix_orch.rollout.freezes_by_hand import (
    Override,
    Said,
    StartedFreeze,
    ended,
    overridden,
    started,
    thawed,
)
from phoenix_orch.rollout.gate import Rules
from phoenix_orch.rollout.groups import Group, may_start, standing
from phoenix_orch.rollout.status import Release, Revision, Rollout
from phoenix_orch.rollout.store.store import RELEASES_KEPT

if TYPE_CHECKING:
    from phoenix_orch.orchestrator.config import PhoenixFile  # half a second


class Book(Protocol):
    """Where what people said about freezes is kept."""

    async def read(self) -> Said:
        """Raises Retryable, and Terminal for what cannot be read."""
        ...

    async def change(self, how: Callable[[Said], Said]) -> None:
        """`how` may be asked several times, where others write too. Raises what it raises."""
        ...


@dataclass(frozen=True, slots=True)
class Declared:
    """What the configuration says."""

    freezes: tuple[Freeze, ...] = ()
    groups: tuple[Group, ...] = ()


def declared_rules(config: PhoenixFile | None) -> Declared:
    """What a phoenix.yaml says, as it was applied."""
    return Declared() if config is None else Declared(config.freezes or (), config.groups or ())


def rules_of(declared: Declared, said: Said) -> Rules:
    """All that says when releases may begin."""
    by_hand = tuple(one.freeze for one in said.freezes)
    return Rules((*declared.freezes, *by_hand), declared.groups, thawed(said))


@dataclass(frozen=True, slots=True)
class Records:
    """What is read of rollouts. Histories newest first."""

    rollouts: Callable[[], Awaitable[list[Rollout]]]
    history: Callable[[str, int], Awaitable[list[Release]]]
    revisions: Callable[[str], Awaitable[list[Revision]]]
    tell: Callable[[Rollout, str, str, str], Awaitable[None]]
    """Keeps an event: rollout, reason, message, actor."""


class Flow:
    """Every method raises the errors of `kernel/errors.py`, and changes nothing with `dry_run`."""

    def __init__(
        self, book: Book, declared: Callable[[], Awaitable[Declared]], records: Records, clock: Clock
    ) -> None:
        self._book = book
        self._declared = declared
        self._records = records
        self._clock = clock

    # -- freezes -----------------------------------------------------------------------------------

    async def freezes(self) -> list[FreezeView]:
        """All that are in force or to come, those in force first."""
        now, said = self._clock.now(), await self._book.read()
        views = [_view(one, now) for one in (await self._declared()).freezes]
        views += [_view(one.freeze, now, one) for one in said.freezes]
        due = [view for view in views if view.open or view.begin is not None]
        return sorted(due, key=lambda view: (not view.open, view.freeze.name))

    async def start_freeze(
        self,
        name: str | None,
        *,
        until: datetime | None,
        lasting: timedelta | None,
        rollouts: tuple[str, ...],
        reason: str,
        under_way: UnderWay,
        actor: str,
        dry_run: bool,
    ) -> FreezeView:
        """Begin a freeze now. `lasting`: in place of `until`; neither: until a person ends it."""
        now = self._clock.now()
        if not reason.strip():
            raise Invalid(
                "a freeze needs a reason", remedy='say why, for whoever has to wait: --reason "..."'
            )
        if until is not None and lasting is not None:
            raise Invalid("both an end and a duration are given", remedy="give one of them")
        end = now + lasting if lasting is not None else until
        if end is not None and end <= now:
            raise Invalid("its end is not in the future", remedy="give a later one")
        new = StartedFreeze(
            freeze=_freeze(name or f"by-hand-{now:%Y%m%d-%H%M%S}", now, end, rollouts, reason, under_way),
            by=actor,
            at=now,
        )
        declared = (await self._declared()).freezes
        started(await self._book.read(), new, declared)
        if not dry_run:
            await self._book.change(lambda said: started(said, new, declared))
            await self._tell_all(new.freeze, "FreezeStarted", reason, actor)
        return _view(new.freeze, now, new)

    async def end_freeze(self, name: str, *, reason: str, actor: str, dry_run: bool) -> FreezeView:
        """End what a person began."""
        now, declared = self._clock.now(), (await self._declared()).freezes
        _, found = ended(await self._book.read(), name, declared)
        if not dry_run:
            await self._book.change(lambda said: ended(said, name, declared)[0])
            await self._tell_all(found.freeze, "FreezeEnded", reason or f"by {actor}", actor)
        return _view(found.freeze, now, found)

    async def override(
        self, rollout: Rollout, revision: str, *, reason: str, actor: str, dry_run: bool
    ) -> OverrideView:
        """Let one revision begin in spite of every freeze."""
        if not reason.strip():
            raise Invalid("an override needs a reason", remedy='say why: --reason "..."')
        held = await self.frozen(rollout.name)
        word = Override(
            rollout=rollout.name, revision=revision, by=actor, at=self._clock.now(), reason=reason
        )
        if not dry_run:
            await self._book.change(lambda said: overridden(said, word))
            message = f"revision {revision} waits for no freeze: {reason}"
            await self._records.tell(rollout, "FreezeOverridden", message, actor)
        name = held.freeze.name if held is not None else ""
        return OverrideView(rollout=rollout.name, revision=revision, freeze=name, reason=word.reason)

    async def override_waiting(self, name: str, *, reason: str, actor: str, dry_run: bool) -> OverrideView:
        """The same for the revision that waits. Raises BadState where none does."""
        rollout = await self._named(name)
        if rollout.target == rollout.status.stable or await self.frozen(name) is None:
            raise BadState(
                f"no release of {name} waits for a freeze", remedy=f"phoenix rollout status {name} shows it"
            )
        return await self.override(rollout, rollout.target, reason=reason, actor=actor, dry_run=dry_run)

    async def frozen(self, rollout: str) -> OpenFreeze | None:
        """The freeze that a release of this rollout would wait for now."""
        return frozen((await self.rules()).freezes, rollout, self._clock.now())

    async def refuse_frozen(self, rollout: str, again: str) -> None:
        """Raises BadState where a freeze would hold a release; `again`: the command that was given."""
        found = await self.frozen(rollout)
        if found is None:
            return
        until = found.window.until
        ends = f"until {until:%Y-%m-%dT%H:%M:%SZ}" if until is not None else "until a person ends it"
        why = f": {found.freeze.reason}" if found.freeze.reason else ""
        raise BadState(
            f"releases of {rollout} are frozen by {found.freeze.name} {ends}{why}",
            remedy=f'wait; or, with the right to approve, {again} --override-freeze --reason "..."',
        )

    async def rules(self) -> Rules:
        """Everything that says when releases may begin."""
        return rules_of(await self._declared(), await self._book.read())

    # -- groups ------------------------------------------------------------------------------------

    async def groups(self) -> list[GroupView]:
        """All groups, and where their members stand."""
        states = {one.name: standing(one) for one in await self._records.rollouts()}
        groups = (await self._declared()).groups
        return [
            GroupView(
                group=group,
                members=tuple(
                    Member(
                        rollout=name,
                        stage=_stage(group, name),
                        standing=states[name],
                        waits=found.message if (found := may_start([group], states, name)) else "",
                    )
                    for name in group.members
                    if name in states
                ),
            )
            for group in groups
        ]

    # -- numbers -----------------------------------------------------------------------------------

    async def dora(self, since: timedelta, rollout: str | None = None) -> DoraReport:
        """Numbers of delivery over the time `since` now, of one rollout or of each and all together."""
        rollouts = await self._records.rollouts() if rollout is None else [await self._named(rollout)]
        found = []
        for one in rollouts:
            history = await self._records.history(one.name, RELEASES_KEPT)
            revisions = await self._records.revisions(one.name)
            found.append(dora.Record(one.name, tuple(history), {r.revision: r.at for r in revisions}))
        return dora.report(found, self._clock.now(), since, kept=RELEASES_KEPT)

    # -- pieces ------------------------------------------------------------------------------------

    async def _named(self, name: str) -> Rollout:
        rollouts = await self._records.rollouts()
        for one in rollouts:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in rollouts) or "none"
        raise NotFound(f"there is no rollout {name!r}", remedy=f"rollouts: {known}")

    async def _tell_all(self, freeze: Freeze, word: str, reason: str, actor: str) -> None:
        for one in await self._records.rollouts():
            if freeze.about(one.name):
                await self._records.tell(one, word, f"freeze {freeze.name}: {reason}", actor)


def _freeze(  # noqa: PLR0917 - what a freeze is made of
    name: str,
    now: datetime,
    end: datetime | None,
    rollouts: tuple[str, ...],
    reason: str,
    under_way: UnderWay,
) -> Freeze:
    """Raises Invalid."""
    try:
        return Freeze(
            name=name,
            begin=now.isoformat(timespec="seconds"),
            until=end.isoformat(timespec="seconds") if end is not None else None,
            rollouts=rollouts or ("*",),
            reason=reason,
            releases_under_way=under_way,
        )
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise Invalid(
            f"that is no freeze: {faults}",
            remedy="a name is made of small letters, digits and -; a pattern may hold * and ?",
        ) from None


def _view(freeze: Freeze, now: datetime, by_hand: StartedFreeze | None = None) -> FreezeView:
    window = freeze.window(now)
    shown = window or freeze.following(now)
    return FreezeView(
        freeze=freeze,
        source="configuration" if by_hand is None else "person",
        by=by_hand.by if by_hand is not None else "",
        at=by_hand.at if by_hand is not None else None,
        open=window is not None,
        begin=shown.begin if shown is not None else None,
        until=shown.until if shown is not None else None,
    )


def _stage(group: Group, name: str) -> int | None:
    return next((number for number, stage in enumerate(group.order, start=1) if name in stage), None)

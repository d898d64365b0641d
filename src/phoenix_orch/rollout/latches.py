"""Which revisions have to be latched, by what the store knows; and a traffic object that agrees.

The latch lives on the traffic object (R4). When that was lost with its copy, the history still says
what was rolled back and never allowed again. The other way round, a latch outlives its revision: age is
no reason to let a bad version near users again. Only where there are more than `LATCHES_KEPT`, which takes
years, the oldest go, and that is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from phoenix_orch.rollout.status import ACTIVE, Outcome, Release, Rollout, State, Status
from phoenix_orch.rollout.store.store import RELEASES_KEPT, RolloutStore
from phoenix_orch.traffic.router import TrafficRouter, TrafficState

LATCHES_KEPT = 5000
"""Of each traffic object; some 13 bytes each in a file that is written whole at every change."""


def to_latch(
    status: Status, known: Iterable[str], history: Sequence[Release], told: Collection[str]
) -> frozenset[str]:
    """Revisions of `known`, and of the history, that were rolled back and not tried again.

    `history`: newest first. `told`: revisions of which a cause is kept; a retry removes it. What serves,
    or is being released, is not among them: that would have been refused, or a person allowed it.
    """
    last: dict[str, Outcome] = {}
    for release in history:
        last.setdefault(release.revision, release.outcome)
    latched = {
        revision
        for revision in {*known, *last}
        if last.get(revision, Outcome.ROLLED_BACK if revision in told else None) is Outcome.ROLLED_BACK
    }
    if status.state in {State.ROLLING_BACK, State.ROLLED_BACK} and status.canary is not None:
        latched.add(status.canary)
    allowed = {status.stable, status.previous} | ({status.canary} if status.state in ACTIVE else set())
    return frozenset(latched - allowed)


def to_forget(
    rollout: Rollout, state: TrafficState, known: Iterable[str], history: Iterable[Release]
) -> tuple[str, ...]:
    """What is too much above `LATCHES_KEPT`, the oldest first; nothing that anybody names any more."""
    status, groups = rollout.status, (state.stable, state.canary, state.previous)
    named = {group.revision for group in groups if group} | {rollout.target, rollout.applied}
    named |= {revision for revision in (status.stable, status.canary, status.previous) if revision}
    named |= {*known, *(release.revision for release in history)}
    spare = max(0, len(state.aborted) - LATCHES_KEPT)
    return tuple(revision for revision in state.aborted if revision not in named)[:spare]


@dataclass(frozen=True, slots=True)
class Changed:
    """What one look at the latches of a traffic object came to."""

    restored: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    """Too many, the oldest first: to be cleared once that has been told."""


@dataclass(frozen=True, slots=True)
class _Look:
    release: int
    state: State
    version: int


class Latches:
    """Keeps the latches of each traffic object what the store says they have to be."""

    def __init__(self, store: RolloutStore, router: TrafficRouter) -> None:
        self._store = store
        self._router = router
        self._looked: dict[str, _Look] = {}

    def forget(self, name: str) -> None:
        """The rollout, or its traffic object, is gone: the next object is looked at again."""
        self._looked.pop(name, None)

    async def keep(self, rollout: Rollout, state: TrafficState) -> Changed:
        """Put latches back that are missing, and say which are too many.

        Looks when there is a reason: at the first sight of an object, when its version went back, and
        when the rollout moved. Raises what store and router raise, and looks again then.
        """
        name, status = rollout.name, rollout.status
        now, before = _Look(status.release, status.state, state.version), self._looked.get(name)
        if status.clear_latch:
            return Changed()  # a retry is on its way; its latch is the one being lifted
        same = before is not None and (before.release, before.state) == (now.release, now.state)
        if same and before is not None and state.version >= before.version:
            self._looked[name] = now
            return Changed()
        known = [one.revision for one in await self._store.revisions(name)]
        history = await self._store.history(name, limit=RELEASES_KEPT)
        wanted = to_latch(status, known, history, await self._told(name, known, history))
        state = await self._router.read(rollout.route)  # anew: an abort of this very pass is in it
        missing = tuple(sorted(wanted - set(state.aborted)))
        for revision in missing:
            await self._router.abort(rollout.route, revision)
        self._looked[name] = now
        return Changed(missing, to_forget(rollout, state, known, history))

    async def _told(self, name: str, known: Iterable[str], history: Sequence[Release]) -> set[str]:
        """Revisions with a cause of which the history says nothing."""
        ended = {release.revision for release in history}
        silent = [revision for revision in known if revision not in ended]
        return {revision for revision in silent if await self._store.cause(name, revision) is not None}

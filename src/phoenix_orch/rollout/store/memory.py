"""Rollouts in memory: the same promises as the real store, and faults on demand. For tests.

Values go through JSON on their way in, as in the real store: what does not survive that fails here too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import BaseModel

from phoenix_orch.health_validator.observation import Observation, Verdict
from phoenix_orch.kernel.errors import Conflict, NotFound, Retryable
from phoenix_orch.rollout.status import (
    Cause,
    Command,
    Event,
    Release,
    Revision,
    Rollout,
    Status,
    Verification,
)
from phoenix_orch.rollout.store.store import RELEASES_KEPT, REVISIONS_KEPT, outdated

M = TypeVar("M", bound=BaseModel)

EVENTS_KEPT = 10_000
OBSERVATIONS_KEPT = 20_000


@dataclass
class _Kept:
    """Everything kept with one name. `rollout` is None while only templates are there."""

    rollout: Rollout | None = None
    events: list[Event] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    history: dict[int, Release] = field(default_factory=dict)
    revisions: dict[str, Revision] = field(default_factory=dict)
    causes: dict[str, tuple[int, Cause]] = field(default_factory=dict)
    verdict: tuple[Verdict, str] | None = None
    puts: int = 0
    verification: Verification | None = None


class MemoryStore:
    """A RolloutStore without a server. For one event loop.

    Faults, each counted down by the calls it hits:

    `away(n)`: the next n calls raise Retryable and do nothing.
    `conflict(n)`: the next n calls of `put` and `save` raise Conflict, as if somebody had written first.
    `lose_answers(n)`: the next n writes take effect and then raise Retryable, as if the connection
    broke before the answer came.
    """

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._removed: dict[str, int] = {}
        self._watchers: set[asyncio.Queue[str]] = set()
        self._away = 0
        self._conflicts = 0
        self._lost_answers = 0

    # -- faults ------------------------------------------------------------------------------------

    def away(self, calls: int = 1) -> None:
        self._away = calls

    def conflict(self, writes: int = 1) -> None:
        self._conflicts = writes

    def lose_answers(self, writes: int = 1) -> None:
        self._lost_answers = writes

    def _called(self) -> None:
        if self._away > 0:
            self._away -= 1
            raise Retryable("the store in memory is away, as the test wants it", remedy="call again")

    def _wrote(self, name: str, *, tell: bool = True) -> None:
        for watcher in self._watchers if tell else ():
            watcher.put_nowait(name)
        if self._lost_answers > 0:
            self._lost_answers -= 1
            raise Retryable("the answer of the store in memory got lost, as the test wants it")

    def _condition(self, name: str, version: int, stored: int) -> None:
        if self._conflicts > 0:
            self._conflicts -= 1
            raise Conflict(f"rollout {name} was changed meanwhile, as the test wants it")
        if version != stored:
            raise Conflict(
                f"rollout {name} is version {stored} in the store, not {version}",
                remedy="read it again and decide again",
            )

    # -- rollouts ----------------------------------------------------------------------------------

    async def rollouts(self) -> list[Rollout]:
        self._called()
        return sorted(
            (kept.rollout for kept in self._kept.values() if kept.rollout is not None), key=lambda r: r.name
        )

    async def page(self, *, after: str = "", limit: int | None = None) -> list[tuple[Rollout, str]]:
        found = [rollout for rollout in await self.rollouts() if rollout.name > after][:limit]
        return [(rollout, str(self._kept[rollout.name].puts)) for rollout in found]

    async def marked(self, name: str) -> tuple[Rollout, str]:
        return await self.get(name), str(self._kept[name].puts)

    async def get(self, name: str) -> Rollout:
        self._called()
        return self._existing(name)[1]

    async def put(self, rollout: Rollout) -> Rollout:
        self._called()
        name = rollout.name
        before = self._kept[name].rollout if name in self._kept else None
        self._condition(name, rollout.version, before.version if before is not None else 0)
        written = _through_json(rollout).model_copy(
            update={
                "status": before.status if before is not None else Status(),
                "commands": before.commands if before is not None else (),
                "version": (before.version if before is not None else self._removed.pop(name, 0)) + 1,
            }
        )
        self._kept.setdefault(name, _Kept()).rollout = written
        self._wrote(name)
        return written

    async def remove(self, name: str) -> None:
        self._called()
        kept = self._kept.pop(name, None)
        if kept is not None and kept.rollout is not None:
            self._removed[name] = kept.rollout.version
            self._wrote(name)

    async def command(self, name: str, command: Command) -> None:
        self._called()
        kept, rollout = self._existing(name)
        known = {waiting.id for waiting in rollout.commands} | set(rollout.status.handled)
        if command.id not in known:
            commands = (*rollout.commands, _through_json(command))
            kept.rollout = rollout.model_copy(update={"commands": commands, "version": rollout.version + 1})
        self._wrote(name, tell=command.id not in known)

    async def save(
        self,
        rollout: Rollout,
        status: Status,
        *,
        events: Sequence[Event] = (),
        release: Release | None = None,
    ) -> Rollout:
        self._called()
        name = rollout.name
        kept = self._kept.get(name, _Kept())
        before = kept.rollout
        self._condition(name, rollout.version, before.version if before is not None else 0)
        if before is None:
            raise Conflict(f"rollout {name} is not there", remedy="read it again and decide again")
        waiting = tuple(command for command in before.commands if command.id not in status.handled)
        written = before.model_copy(
            update={"status": _through_json(status), "commands": waiting, "version": before.version + 1}
        )
        kept.rollout = written
        _cap(kept.events, events, EVENTS_KEPT)
        if release is not None:
            kept.history[release.number] = _through_json(release)
            for number in sorted(kept.history)[:-RELEASES_KEPT]:
                del kept.history[number]
        self._wrote(name)
        return written

    # -- logs --------------------------------------------------------------------------------------

    async def events(self, name: str, *, limit: int = 100) -> list[Event]:
        self._called()
        return _newest(self._kept.get(name, _Kept()).events, limit)

    async def append_events(self, name: str, events: Sequence[Event]) -> None:
        self._called()
        kept, _ = self._existing(name)
        _cap(kept.events, _unknown(kept.events, events), EVENTS_KEPT)
        self._wrote(name)

    async def append_observation(self, name: str, observation: Observation) -> None:
        self._called()
        kept, _ = self._existing(name)
        _cap(kept.observations, _unknown(kept.observations, [observation]), OBSERVATIONS_KEPT)
        self._wrote(name, tell=False)

    async def observations(
        self, name: str, *, since: datetime | None = None, limit: int = 1000
    ) -> list[Observation]:
        self._called()
        found = _newest(self._kept.get(name, _Kept()).observations, limit)
        older = [i for i, observation in enumerate(found) if since is not None and observation.t1 < since]
        return found[older[-1] + 1 :] if older else found

    # -- history -----------------------------------------------------------------------------------

    async def history(self, name: str, *, limit: int = 50) -> list[Release]:
        self._called()
        history = self._kept.get(name, _Kept()).history
        return [history[number] for number in sorted(history, reverse=True)[: max(0, limit)]]

    async def add_revision(self, name: str, revision: Revision) -> Revision:
        self._called()
        kept = self._kept.setdefault(name, _Kept())
        if revision.revision not in kept.revisions:
            number = max((known.number for known in kept.revisions.values()), default=0) + 1
            kept.revisions[revision.revision] = _through_json(revision).model_copy(update={"number": number})
            self._forget_revisions(kept, number - REVISIONS_KEPT)
        self._wrote(name, tell=False)
        return kept.revisions[revision.revision].model_copy(deep=True)

    def _forget_revisions(self, kept: _Kept, up_to: int) -> None:
        needed: set[str | None] = set()
        if kept.rollout is not None:
            status = kept.rollout.status
            needed = {kept.rollout.target, kept.rollout.applied}
            needed |= {status.stable, status.canary, status.previous}
        old = [known for known in kept.revisions.values() if known.number <= up_to]
        for known in old:
            if known.revision not in needed:
                del kept.revisions[known.revision]
                kept.causes.pop(known.revision, None)

    async def revisions(self, name: str) -> list[Revision]:
        self._called()
        known = self._kept.get(name, _Kept()).revisions.values()
        return [revision.model_copy(deep=True) for revision in sorted(known, key=lambda r: r.number)]

    # -- words of the other processes ----------------------------------------------------------------

    async def put_verdict(
        self, name: str, verdict: Verdict, judge_state: str, *, clock_back: bool = False
    ) -> None:
        self._called()
        kept, _ = self._existing(name)
        if kept.verdict is not None and kept.verdict[0].at > verdict.at and not clock_back:
            raise outdated(name)
        kept.verdict = (_through_json(verdict), judge_state)
        kept.puts += 1
        self._wrote(name)

    async def verdict(self, name: str) -> tuple[Verdict, str] | None:
        self._called()
        return self._kept.get(name, _Kept()).verdict

    async def show_verdict(self, name: str, verdict: Verdict, *, clock_back: bool = False) -> None:
        """It is known as soon as it is put."""

    async def judged(self, name: str) -> Verdict | None:
        kept = await self.verdict(name)
        return kept[0] if kept is not None else None

    async def put_verification(self, name: str, verification: Verification) -> None:
        self._called()
        kept, _ = self._existing(name)
        kept.verification = _through_json(verification)
        self._wrote(name)

    async def verification(self, name: str) -> Verification | None:
        self._called()
        return self._kept.get(name, _Kept()).verification

    async def put_cause(self, name: str, cause: Cause) -> None:
        self._called()
        kept, rollout = self._existing(name)
        told = kept.causes.get(cause.revision)
        release = rollout.status.release
        if told is None or told[0] != release:
            kept.causes[cause.revision] = (release, _through_json(cause))
        self._wrote(name)

    async def cause(self, name: str, revision: str) -> Cause | None:
        self._called()
        told = self._kept.get(name, _Kept()).causes.get(revision)
        return told[1] if told is not None else None

    async def clear_cause(self, name: str, revision: str) -> None:
        self._called()
        if name in self._kept:
            self._kept[name].causes.pop(revision, None)
        self._wrote(name, tell=False)

    # -- watching ----------------------------------------------------------------------------------

    async def watch(self, *, timeout: timedelta) -> AsyncIterator[str]:  # noqa: ASYNC109 - the port's word
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            yield ""
            while True:
                name = ""
                try:
                    async with asyncio.timeout(timeout.total_seconds()):
                        name = await queue.get()
                except TimeoutError:
                    pass
                yield name
        finally:
            self._watchers.discard(queue)

    def _existing(self, name: str) -> tuple[_Kept, Rollout]:
        kept = self._kept.get(name)
        if kept is None or kept.rollout is None:
            raise NotFound(f"there is no rollout {name!r}", remedy="phoenix get rollouts lists them")
        return kept, kept.rollout


def _through_json(value: M) -> M:
    return type(value).model_validate_json(value.model_dump_json())


def _newest(log: Sequence[M], limit: int) -> list[M]:
    return list(log[-limit:]) if limit > 0 else []


def _unknown(log: Sequence[M], entries: Sequence[M]) -> list[M]:
    """Those of `entries` that are not among the newest: a repeated call adds nothing."""
    newest = {entry.model_dump_json() for entry in log[-(19 + len(entries)) :]}
    return [entry for entry in entries if entry.model_dump_json() not in newest]


def _cap(log: list[M], entries: Sequence[M], kept: int) -> None:
    log.extend(map(_through_json, entries))
    del log[:-kept]

"""Rollouts as custom resources of a cluster, with a log beside them.

What a decision needs and says is in the object alone: spec, machine memory, commands, and the last verdict in
short. What only grows is in the log, any other RolloutStore (Valkey): events, history, templates,
observations, verdicts with their evidence and the judge's state, causes, verifications. ADR 0016 says why.

The events and the release of a decision are written into the object together with it, and go from there to
the log, at once or when the log is back: nothing is lost between the two, and no decision fails for want of
the log (R2).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from phoenix_orch.health_validator.observation import Observation, Verdict
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import Conflict, NotFound, PhoenixError, Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.errors import Changed
from phoenix_orch.kube.reflector import Reflector
from phoenix_orch.kube.resources import ROLLOUTS, Object
from phoenix_orch.rollout.conditions import Condition
from phoenix_orch.rollout.kubernetes_status import KubernetesStatus, VerdictSummary, summary
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
from phoenix_orch.rollout.store import kubernetes_record as record
from phoenix_orch.rollout.store.kubernetes_log import ATTEMPTS, LONG, PATIENCE, SHORT, LogBeside, busy
from phoenix_orch.rollout.store.store import RolloutStore, outdated
from phoenix_orch.runtime.faults import Faults

T = TypeVar("T")

_PAUSE = 1.0
"""Seconds before a log that ended a watch is listened to again."""
_SUMMARY_AGE = timedelta(seconds=30)
"""A verdict in short that says the same is written again only after this time: others are woken by it."""

_log = structlog.get_logger("phoenix.store")


class KubernetesStore:
    """A RolloutStore of one namespace. For one event loop; any number of tasks may call it."""

    def __init__(self, client: KubeClient, log: RolloutStore, *, namespace: str, clock: Clock) -> None:
        """`log` is used by the rollouts of this namespace alone."""
        self._client = client
        self._log = log
        self._namespace = namespace
        self._clock = clock
        self._beside = LogBeside(log)
        self._faults = Faults(_log)

    # -- rollouts ----------------------------------------------------------------------------------

    async def rollouts(self) -> list[Rollout]:
        """All that can be read: one person's object of another version stops nobody else's release."""
        page = await self._client.list(ROLLOUTS, self._namespace)
        self._forget_others([item["metadata"]["name"] for item in page.items])
        found = (_readable(item) for item in page.items)
        return sorted((rollout for rollout in found if rollout is not None), key=lambda r: r.name)

    async def get(self, name: str) -> Rollout:
        return record.rollout_of(await self._object(name))

    async def put(self, rollout: Rollout) -> Rollout:
        name = rollout.name
        found = await self._found_as(rollout)
        if found is None and rollout.version == 0:
            found = await self._create(rollout)
        elif found is None or rollout.version != record.version_of(found):
            raise _changed(name, found)
        elif rollout.spec != record.spec_of(found).common():
            found = await self._replace(record.with_spec(found, rollout.spec))
        status = record.status_of(found).model_copy(update={"wanted": record.wanted_of(rollout)})
        return await self._wrote(await self._replace_status(record.with_status(found, status)))

    async def _create(self, rollout: Rollout) -> Object:
        try:
            return await self._client.create(ROLLOUTS, record.manifest_of(rollout), self._namespace)
        except Changed as error:
            raise _changed(rollout.name, None) from error

    async def remove(self, name: str) -> None:
        found = await self._found(name)
        if found is not None:
            with contextlib.suppress(NotFound):
                await self._client.delete(ROLLOUTS, name, self._namespace, uid=record.uid_of(found))
        self._forget(name)
        await self._log.remove(name)

    def _forget(self, name: str) -> None:
        self._beside.forget(name)
        self._faults.forget(name)

    def _forget_others(self, names: Collection[str]) -> None:
        """Objects that are there no more take no memory."""
        for gone in self._beside.others(names):
            self._forget(gone)

    async def sweep(self, uids: Collection[str]) -> tuple[str, ...]:
        """Remove from the log what belongs to no object any more; gives the names. `uids`: of the objects
        there are, as far as is known: each other one is asked for before. Raises Retryable."""
        copies = await self._beside.patience.within(PATIENCE, self._log.rollouts)
        gone = []
        for copy in copies:
            if copy.service in uids or await self._is_there(copy):
                continue
            await self._beside.patience.within(PATIENCE, functools.partial(self._log.remove, copy.name))
            self._forget(copy.name)
            gone.append(copy.name)
        return tuple(gone)

    async def _is_there(self, copy: Rollout) -> bool:
        found = await self._found(copy.name)
        return found is not None and record.uid_of(found) == copy.service

    async def command(self, name: str, command: Command) -> None:
        def add(status: KubernetesStatus) -> KubernetesStatus:
            known = {waiting.id for waiting in status.commands} | set(status.handled)
            commands = status.commands if command.id in known else (*status.commands, command)
            return status.model_copy(update={"commands": commands})

        await self._change(name, add)

    async def save(
        self,
        rollout: Rollout,
        status: Status,
        *,
        events: Sequence[Event] = (),
        release: Release | None = None,
    ) -> Rollout:
        found = await self._found_as(rollout)
        if found is None or rollout.version != record.version_of(found):
            raise _changed(rollout.name, found)
        logged = self._beside.has(rollout.name, record.status_of(found).outbox)
        decided = record.decided(
            found, status, self._clock.now(), events=tuple(events), release=release, logged=logged
        )
        return await self._wrote(await self._replace_status(record.with_status(found, decided)))

    async def tell(self, name: str, condition: Condition) -> None:
        """Put a condition into the status, in place of the one of its type. Raises NotFound, Retryable."""

        def put(status: KubernetesStatus) -> KubernetesStatus:
            others = (one for one in status.conditions if one.type != condition.type)
            return status.model_copy(update={"conditions": (*others, condition)})

        await self._change(name, put)

    # -- the object --------------------------------------------------------------------------------

    async def _found(self, name: str) -> Object | None:
        try:
            return await self._client.get(ROLLOUTS, name, self._namespace)
        except NotFound:
            return None

    async def _found_as(self, rollout: Rollout) -> Object | None:
        """The object, asked for where it is not known at the version that was decided on."""
        known = await self._known(rollout.name)
        if known is not None and record.version_of(known) == rollout.version:
            return known
        return await self._found(rollout.name)

    async def _known(self, name: str) -> Object | None:  # noqa: ARG002 - for those who watch
        """As far as it is known without asking; it may be old, and what is written from it be refused."""
        return None

    async def _glimpse(self, name: str) -> Object | None:
        """As it was a moment ago, for what needs no version."""
        return await self._found(name)

    async def _object(self, name: str) -> Object:
        found = await self._found(name)
        if found is None:
            raise NotFound(
                f"there is no rollout {name!r} in namespace {self._namespace}",
                remedy="kubectl get rollouts lists them",
            )
        return found

    async def _replace(self, body: Object, subresource: str = "") -> Object:
        try:
            return await self._client.replace(ROLLOUTS, body, self._namespace, subresource=subresource)
        except (Changed, NotFound) as error:
            raise _changed(body["metadata"]["name"], None) from error

    async def _replace_status(self, body: Object) -> Object:
        return await self._replace(body, "status")

    async def _change(self, name: str, change: Callable[[KubernetesStatus], KubernetesStatus]) -> None:
        """Write a change of the status that is right whatever else has changed."""
        found = await self._known(name)
        for _ in range(ATTEMPTS):
            found = found or await self._object(name)
            before = record.status_of(found)
            after = change(before)
            if after == before:
                return
            with contextlib.suppress(Conflict):
                await self._replace_status(record.with_status(found, after))
                return
            found = None  # somebody else has written
        raise busy(name)

    # -- the log -----------------------------------------------------------------------------------

    async def _wrote(self, found: Object) -> Rollout:
        """What was written; the log is told if it is there."""
        try:
            await self._beside.flush(found, within=SHORT)
        except PhoenixError as error:
            _log.warning("the log is behind", rollout=found["metadata"]["name"], error=str(error))
        return record.rollout_of(found)

    async def _write_log(self, name: str, write: Callable[[], Awaitable[None]]) -> KubernetesStatus:
        """Write to the log of a rollout that is there; gives its status. Raises NotFound, Retryable."""
        found = await self._known(name) or await self._object(name)
        await self._beside.write(found, write)
        return record.status_of(found)

    async def _read_through(self, name: str) -> None:
        """Before reading the log: what is on its way there arrives. Raises Retryable."""
        found = await self._known(name) or await self._found(name)
        if found is not None:
            await self._beside.flush(found)

    async def events(self, name: str, *, limit: int = 100) -> list[Event]:
        await self._read_through(name)
        return await self._looked_up(lambda: self._log.events(name, limit=limit))

    async def append_events(self, name: str, events: Sequence[Event]) -> None:
        await self._write_log(name, lambda: self._log.append_events(name, events))

    async def history(self, name: str, *, limit: int = 50) -> list[Release]:
        await self._read_through(name)
        return await self._looked_up(lambda: self._log.history(name, limit=limit))

    async def add_revision(self, name: str, revision: Revision) -> Revision:
        return await self._looked_up(lambda: self._log.add_revision(name, revision))

    async def revisions(self, name: str) -> list[Revision]:
        return await self._looked_up(lambda: self._log.revisions(name))

    async def put_verdict(
        self, name: str, verdict: Verdict, judge_state: str, *, clock_back: bool = False
    ) -> None:
        """Into the log; `show_verdict` puts it into the object."""

        async def write() -> None:
            await self._log.put_verdict(name, verdict, judge_state, clock_back=clock_back)

        await self._write_log(name, write)

    async def show_verdict(self, name: str, verdict: Verdict, *, clock_back: bool = False) -> None:
        """Into the object, in short: who acts on it needs no log."""
        short = summary(verdict)

        def put(status: KubernetesStatus) -> KubernetesStatus:
            before = status.verdict
            if before is not None and before.at > short.at and not clock_back:
                raise outdated(name)
            if _says_the_same(before, short):
                return status
            return status.model_copy(update={"verdict": short})

        await self._change(name, put)

    async def verdict(self, name: str) -> tuple[Verdict, str] | None:
        return await self._asked(lambda: self._log.verdict(name))

    async def judged(self, name: str) -> Verdict | None:
        """The newer one of what the object says and what the log has, which may be away."""
        found = await self._glimpse(name)
        said = record.verdict_of(found) if found is not None else None
        try:
            kept = await self.verdict(name)
        except PhoenixError as error:
            self._faults.tell(name, "verdict", error=error)
            return said
        self._faults.mended(name, "verdict")
        if kept is None or (said is not None and said.at > kept[0].at):
            return said
        return kept[0]

    async def append_observation(self, name: str, observation: Observation) -> None:
        before = await self._write_log(name, lambda: self._log.append_observation(name, observation))
        seen = observation.weight_applied
        if before.weight_seen != seen:
            await self._change(name, lambda status: status.model_copy(update={"weight_seen": seen}))

    async def observations(
        self, name: str, *, since: datetime | None = None, limit: int = 1000
    ) -> list[Observation]:
        return await self._looked_up(lambda: self._log.observations(name, since=since, limit=limit))

    async def put_cause(self, name: str, cause: Cause) -> None:
        await self._write_log(name, lambda: self._log.put_cause(name, cause))

    async def cause(self, name: str, revision: str) -> Cause | None:
        return await self._asked(lambda: self._log.cause(name, revision))

    async def clear_cause(self, name: str, revision: str) -> None:
        await self._looked_up(lambda: self._log.clear_cause(name, revision))

    async def put_verification(self, name: str, verification: Verification) -> None:
        await self._write_log(name, lambda: self._log.put_verification(name, verification))

    async def verification(self, name: str) -> Verification | None:
        return await self._asked(lambda: self._log.verification(name))

    async def _asked(self, read: Callable[[], Awaitable[T]]) -> T:
        """What a pass reads before it decides: never for long (R2). Raises Retryable."""
        return await self._beside.patience.within(SHORT, read)

    async def _looked_up(self, call: Callable[[], Awaitable[T]]) -> T:
        """What no decision waits for, and may be much. Raises Retryable."""
        return await self._beside.patience.within(LONG, call)

    # -- watching ----------------------------------------------------------------------------------

    async def watch(self, *, timeout: timedelta) -> AsyncIterator[str]:  # noqa: ASYNC109 - the port's word
        """Changes of objects and of the log."""
        names: asyncio.Queue[str] = asyncio.Queue()
        reflector = Reflector(self._client, self._client.selection(ROLLOUTS, self._namespace))
        tasks = [asyncio.create_task(reflector.run()), asyncio.create_task(self._hear_log(names))]
        try:
            reflector.cache.subscribe(lambda key: names.put_nowait(key.name))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout.total_seconds()):
                    await reflector.cache.synced()
            yield ""
            while True:
                name = ""
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout.total_seconds()):
                        name = await names.get()
                yield name
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear_log(self, names: asyncio.Queue[str]) -> None:
        """The log may be away; what only it tells is then learnt by looking."""
        while True:
            with contextlib.suppress(PhoenixError):
                async for name in self._log.watch(timeout=timedelta(minutes=1)):
                    if name:
                        names.put_nowait(name)
            await asyncio.sleep(_PAUSE)


def _readable(found: Object) -> Rollout | None:
    try:
        return record.rollout_of(found)
    except Terminal as error:
        _log.error("a rollout cannot be read", rollout=found["metadata"]["name"], error=str(error))
        return None


def _says_the_same(before: VerdictSummary | None, now: VerdictSummary) -> bool:
    """But for figures in its reason, and lately."""
    if before is None or not timedelta(0) <= now.at - before.at < _SUMMARY_AGE:
        return False
    return before.model_copy(update={"at": now.at, "reason": now.reason}) == now


def _changed(name: str, found: Object | None) -> Conflict:
    now = f"is version {record.version_of(found)} now" if found else "was changed, made or deleted meanwhile"
    return Conflict(f"rollout {name} {now}", remedy="read it again and decide again")

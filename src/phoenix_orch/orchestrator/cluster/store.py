"""The store of the controllers in a cluster: rollouts are read from a watch, so that idle ones are free."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import Conflict, NotFound
from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import Object, version_of
from phoenix_orch.orchestrator.cluster.declared import Declared, Rollouts
from phoenix_orch.orchestrator.cluster.telling import Tell, nobody
from phoenix_orch.rollout.status import Event, Release, Rollout, Status
from phoenix_orch.rollout.store.kubernetes import KubernetesStore
from phoenix_orch.rollout.store.store import RolloutStore

MAX_AGE = 90.0
"""Seconds after which a watch that has heard nothing is believed no more; of a quiet one it hears once a
minute."""


class WatchedStore(KubernetesStore):
    """A KubernetesStore that reads records where they are watched, and at the API server where the watch is
    behind: of what this process wrote, and of what somebody else did when a write came too late. Rollouts for
    which nothing is wanted yet are not shown."""

    def __init__(
        self,
        client: KubeClient,
        log: RolloutStore,
        cache: Cache,
        rollouts: Rollouts,
        *,
        namespace: str,
        clock: Clock,
        tell: Tell = nobody,
    ) -> None:
        """`rollouts`: what `cache` shows, read. `tell` hears of events that were written."""
        super().__init__(client, log, namespace=namespace, clock=clock)
        self._cache = cache
        self._shown = rollouts
        self._written: dict[str, int] = {}
        self._late: set[str] = set()
        """Decided on old knowledge: where the watch is slow the next decision would be as old."""
        self._in = namespace
        self._tell = tell
        self._wanted: tuple[list[Declared], list[Rollout]] = ([], [])
        """Those that were listed last, and of them those that are shown."""

    async def rollouts(self) -> list[Rollout]:
        """The very same list until one of them changes: who looks every moment has nothing to do then."""
        if not self._current():
            return self._of_those(await super().rollouts())
        there = self._shown.all()
        if there is not self._wanted[0]:
            self._wanted = there, self._of_those([one.rollout for one in there])
        return self._wanted[1]

    def _of_those(self, found: list[Rollout]) -> list[Rollout]:
        """Those that are shown; what is known of others is forgotten."""
        names = {one.name for one in found}
        self._forget_others(names)
        self._late &= names
        self._written = {name: at for name, at in self._written.items() if name in names}
        return [one for one in found if one.target]

    async def get(self, name: str) -> Rollout:
        late = name in self._late
        self._late.discard(name)
        if not late and self._watched(name) is not None:
            with contextlib.suppress(NotFound):  # what cannot be read says why there
                return self._shown.named(name).rollout
        return await super().get(name)

    async def put(self, rollout: Rollout) -> Rollout:
        with self._noting_conflicts(rollout.name):
            return self._wrote_own(await super().put(rollout))

    async def save(
        self,
        rollout: Rollout,
        status: Status,
        *,
        events: Sequence[Event] = (),
        release: Release | None = None,
    ) -> Rollout:
        with self._noting_conflicts(rollout.name):
            saved = self._wrote_own(await super().save(rollout, status, events=events, release=release))
        self._tell(rollout.name, events)
        return saved

    async def append_events(self, name: str, events: Sequence[Event]) -> None:
        await super().append_events(name, events)
        self._tell(name, events)

    async def watch(self, *, timeout: timedelta) -> AsyncIterator[str]:  # noqa: ASYNC109 - the port's word
        """Changes of objects, from the watch there is, and of the log."""
        names: asyncio.Queue[str] = asyncio.Queue()
        hearing = asyncio.create_task(self._hear_log(names))
        unsubscribe = self._cache.subscribe(lambda key: names.put_nowait(key.name))
        try:
            yield ""
            while True:
                name = ""
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout.total_seconds()):
                        name = await names.get()
                yield name
        finally:
            unsubscribe()
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    async def _known(self, name: str) -> Object | None:
        return self._watched(name) or await super()._known(name)

    async def _glimpse(self, name: str) -> Object | None:
        return self._cache.get(name, self._in)

    async def _replace_status(self, body: Object) -> Object:
        written = await super()._replace_status(body)
        self._written[written["metadata"]["name"]] = int(version_of(written))
        return written

    @contextlib.contextmanager
    def _noting_conflicts(self, name: str) -> Iterator[None]:
        try:
            yield
        except Conflict:
            self._late.add(name)
            raise

    def _wrote_own(self, rollout: Rollout) -> Rollout:
        self._written[rollout.name] = rollout.version
        return rollout

    def _watched(self, name: str) -> Object | None:
        """The object as it is watched; None where the watch may be behind what this process wrote."""
        found = self._cache.get(name, self._in) if self._current() else None
        if found is None or int(version_of(found)) < self._written.get(name, 0):
            return None
        return found

    def _current(self) -> bool:
        age = self._cache.age()
        return self._cache.is_synced and age is not None and age < MAX_AGE

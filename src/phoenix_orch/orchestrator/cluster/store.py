"""The store of the controllers in a cluster: rollouts are read from a watch, so that idle ones are free."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import Conflict
from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.orchestrator.cluster.declared import Rollouts
from phoenix_orch.orchestrator.cluster.telling import Tell, nobody
from phoenix_orch.rollout.status import Event, Release, Rollout, Status
from phoenix_orch.rollout.store.kubernetes import KubernetesStore
from phoenix_orch.rollout.store.kubernetes_record import rollout_of
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
        *,
        namespace: str,
        clock: Clock,
        tell: Tell = nobody,
    ) -> None:
        """`tell` hears of events that were written."""
        super().__init__(client, log, namespace=namespace, clock=clock)
        self._cache = cache
        self._shown = Rollouts(cache)
        self._written: dict[str, int] = {}
        self._late: set[str] = set()
        """Decided on old knowledge: where the watch is slow the next decision would be as old."""
        self._in = namespace
        self._tell = tell

    async def rollouts(self) -> list[Rollout]:
        found = [one.rollout for one in self._shown.all()] if self._current() else await super().rollouts()
        self._late &= {one.name for one in found}
        self._written = {one.name: at for one in found if (at := self._written.get(one.name)) is not None}
        return [one for one in found if one.target]

    async def get(self, name: str) -> Rollout:
        found = self._cache.get(name, self._in) if self._current() else None
        if name in self._late:
            self._late.discard(name)
            return await super().get(name)
        if found is None or int(found["metadata"]["resourceVersion"]) < self._written.get(name, 0):
            return await super().get(name)
        return rollout_of(found)

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

    def _current(self) -> bool:
        age = self._cache.age()
        return self._cache.is_synced and age is not None and age < MAX_AGE

"""What the cluster tells of pods in trouble beside their status: asked for seldom, and waited for briefly.

That a pod crashed stands in its status, which is watched. Events only explain it, so a list of them that
fails or hangs delays no decision about the pod by more than a moment (R2). They are asked for when a new
trouble is seen, and now and then while it lasts; never for pods that are well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from time import monotonic

import structlog

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import EVENTS, Object
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.workload.deployment.health import CANNOT_START
from phoenix_orch.workload.deployment.manifest import Manifest, at, items

PATIENCE = 1.0
"""Seconds that one request may keep those waiting who decide."""
AGAIN = 15.0
"""Seconds between two requests about the same troubles."""
PAUSE = 5.0
"""Seconds without a request after one that failed."""
RECENT = timedelta(minutes=10)
"""A container that was restarted longer ago than this is well again."""

Trouble = tuple[str, str, str, int]
"""Uid of a pod, its container, why that waits, and how often it was restarted."""


def troubles(pods: Iterable[Manifest], now: datetime) -> frozenset[Trouble]:
    """What only events explain. Pure. `now`: by the cluster's clocks."""
    return frozenset(
        (str(at(pod, "metadata", "uid")), str(one.get("name")), str(_reason(one)), _restarts(one))
        for pod in pods
        for one in (
            *items(pod, "status", "initContainerStatuses"),
            *items(pod, "status", "containerStatuses"),
        )
        if _reason(one) in {*CANNOT_START, "ContainerCreating", "PodInitializing"} or _just_ended(one, now)
    )


def _reason(container: Manifest) -> object:
    return at(container, "state", "waiting", "reason")


def _restarts(container: Manifest) -> int:
    return int(container.get("restartCount") or 0)


def _just_ended(container: Manifest, now: datetime) -> bool:
    if not _restarts(container):
        return False
    ended = at(container, "lastState", "terminated", "finishedAt")
    return ended is None or now - datetime.fromisoformat(str(ended)) < RECENT


class PodEvents:
    """The events about pods of the namespaces that are asked for."""

    def __init__(self, client: KubeClient, clock: Callable[[], float] = monotonic) -> None:
        self._client = client
        self._clock = clock
        self._told: dict[str, _Told] = {}
        self._faults = Faults(structlog.get_logger("phoenix.pod-events"))

    async def about(
        self, namespace: str, pods: Iterable[Manifest], now: datetime | None = None
    ) -> tuple[Object, ...]:
        """As far as they are known by now. Raises nothing."""
        found = troubles(pods, now or datetime.now(UTC))
        if not found:
            return ()
        told = self._told.setdefault(namespace, _Told())
        await told.answer(self._clock)
        if told.asks(found, self._clock()):
            told.begin(asyncio.ensure_future(self._list(namespace)), found, self._clock())
            await told.answer(self._clock)
        return told.events

    async def _list(self, namespace: str) -> tuple[Object, ...] | None:
        """Those of the last hour; None: they cannot be had."""
        try:
            page = await self._client.list(EVENTS, namespace, fields="regarding.kind=Pod")
        except PhoenixError as error:
            self._faults.tell(namespace, error=error)
            return None
        self._faults.mended(namespace)
        return tuple(page.items)


class _Told:
    """What is known of one namespace."""

    def __init__(self) -> None:
        self.events: tuple[Object, ...] = ()
        self._request: asyncio.Future[tuple[Object, ...] | None] | None = None
        self._begun = self._next = 0.0
        self._known: frozenset[Trouble] = frozenset()
        """Troubles that requests were made for."""

    def asks(self, found: frozenset[Trouble], now: float) -> bool:
        return self._request is None and (now >= self._next or bool(found - self._known))

    def begin(
        self, request: asyncio.Future[tuple[Object, ...] | None], found: frozenset[Trouble], now: float
    ) -> None:
        self._known = found if now >= self._next else found | self._known
        self._request, self._begun, self._next = request, now, now + AGAIN

    async def answer(self, clock: Callable[[], float]) -> None:
        """Wait for the request under way, if there is one, and no longer than it may keep anybody."""
        if self._request is None:
            return
        if (left := self._begun + PATIENCE - clock()) > 0:
            await asyncio.wait({self._request}, timeout=left)
        if not self._request.done():
            return
        found, self._request = self._request.result(), None
        if found is None:
            self._next = clock() + PAUSE
        else:
            self.events = found

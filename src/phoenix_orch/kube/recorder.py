"""Events of Kubernetes: what `kubectl describe` and `kubectl get events` show of what Phoenix did.

Best effort: `record` never waits and never fails. What cannot be sent is counted in `dropped`; the history
of a rollout is kept elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Literal, NoReturn

import structlog

from phoenix_orch.kernel.errors import NotFound, PhoenixError
from phoenix_orch.kernel.text import plain
from phoenix_orch.kube.aggregation import Aggregator, Happening, Reference, Series
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.patches import json_patch, test
from phoenix_orch.kube.resources import EVENTS, Object
from phoenix_orch.runtime.faults import Faults

QUEUE = 1000
LOOK = 10.0
"""Seconds between two looks at counts that are to be written."""
_NOTE_BYTES = 1024
_WORD = 128
_PREFIX = 200
"""Characters of an object's name in that of an event; a name may have 253."""


class Recorder:
    """Takes happenings from anywhere and tells them as Events, one after the other."""

    def __init__(
        self,
        client: KubeClient,
        *,
        component: str,
        instance: str,
        clock: Callable[[], float] = monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`component`: the controller, as `phoenix-orch.io/rollout-controller`; `instance`: the process."""
        self.dropped = 0
        self._client = client
        self._component = component
        self._instance = instance[:_WORD]
        self._clock = clock
        self._wall = wall
        self._aggregator = Aggregator()
        self._queue: deque[Happening] = deque()
        self._uids: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._faults = Faults(structlog.get_logger("phoenix.kube"))

    def record(
        self,
        regarding: Reference,
        reason: str,
        note: str,
        *,
        action: str,
        type: Literal["Normal", "Warning"] = "Normal",  # noqa: A002 - the field's name
    ) -> None:
        """Tell that something happened to an object. Never waits, never raises."""
        if len(self._queue) >= QUEUE:
            self._queue.popleft()
            self.dropped += 1
        happening = Happening(regarding, type, reason[:_WORD], action[:_WORD], _cut(plain(note)))
        self._queue.append(happening)
        self._wake.set()

    async def run(self) -> NoReturn:
        """Send until cancelled; what is still in the queue then is lost."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """Send what there is to send now."""
        while self._queue:
            series = self._aggregator.note(self._queue.popleft(), self._clock())
            if series is not None:
                await self._tell(series)
        for series in self._aggregator.due(self._clock()):
            await self._tell(series)
        self._aggregator.ended(self._clock())

    async def _tell(self, series: Series) -> None:
        count = series.count
        try:
            if series.name:
                await self._update(series, count)
            else:
                await self._make(series, count)
        except PhoenixError as error:
            self.dropped += 1
            self._faults.tell("events", error=error)
        else:
            self._faults.mended("events")
        self._aggregator.told(series, count, self._clock())  # also when it failed: it is not tried for ever

    async def _make(self, series: Series, count: int) -> None:
        about = series.happening.regarding
        name = f"{about.name[:_PREFIX]}.{secrets.token_hex(8)}"
        made = await self._client.create(
            EVENTS, self._event(series, name, count), about.namespace or "default"
        )
        series.name, series.uid = name, made["metadata"]["uid"]

    async def _update(self, series: Series, count: int) -> None:
        value = {"count": count, "lastObservedTime": _micro(self._wall())}
        patch = json_patch(
            [test("/metadata/uid", series.uid), {"op": "add", "path": "/series", "value": value}]
        )
        namespace = series.happening.regarding.namespace or "default"
        try:
            await self._client.patch(EVENTS, series.name, patch, namespace)
        except NotFound:  # events are kept for an hour
            await self._make(series, count)

    def _event(self, series: Series, name: str, count: int) -> Object:
        happening = series.happening
        about = happening.regarding
        fields = {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "namespace": about.namespace,
            "name": about.name,
            "uid": about.uid,
        }
        event: Object = {
            "metadata": {"name": name, "namespace": about.namespace or "default"},
            "eventTime": _micro(self._wall()),
            "reportingController": self._component,
            "reportingInstance": self._instance,
            "action": happening.action,
            "reason": happening.reason,
            "type": happening.type,
            "note": happening.note,
            "regarding": {field: value for field, value in fields.items() if value},
        }
        if count > 1:
            event["series"] = {"count": count, "lastObservedTime": _micro(self._wall())}
        return event


def _micro(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _cut(note: str) -> str:
    data = note.encode()
    if len(data) <= _NOTE_BYTES:
        return note
    return data[: _NOTE_BYTES - 3].decode(errors="ignore") + "…"

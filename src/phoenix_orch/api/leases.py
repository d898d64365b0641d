"""A stream ends with what let it in: a token that is revoked, a session that is logged out, time that is up.

Only streams: whatever else is under way is done to its end, and its answer told.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

EVENTS = "text/event-stream"
STATE = "credential"
"""Key of the `Credential` in the state of a request, put there by whoever made its sender known."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What lets a request in, and for how long."""

    key: str
    """`token:ID`, `session:KEY`."""
    lasts: float | None = None
    """Seconds from now; None: until it is ended."""


class Leases:
    """Streams that are open, by what let them in. For one event loop."""

    def __init__(self) -> None:
        self._open: defaultdict[str, set[asyncio.Task[object]]] = defaultdict(set)
        self._ended: set[asyncio.Task[object]] = set()
        self._alarms: dict[asyncio.Task[object], asyncio.TimerHandle] = {}
        """When a credential ends by itself, for as long as the stream is open: it may last a year."""

    @property
    def open(self) -> frozenset[str]:
        """Keys of the credentials that have streams."""
        return frozenset(self._open)

    def end(self, key: str) -> None:
        """End all streams of this credential."""
        for task in tuple(self._open.get(key, ())):
            self._cut(task)

    def take(self, credential: Credential) -> asyncio.Task[object]:
        """The task that calls streams from now on by this credential."""
        task = asyncio.current_task()
        assert task is not None
        self._open[credential.key].add(task)
        if credential.lasts is not None:
            self._alarms[task] = asyncio.get_running_loop().call_later(
                max(0.0, credential.lasts), self._late, credential.key, task
            )
        return task

    def give_back(self, credential: Credential, task: asyncio.Task[object]) -> bool:
        """The stream is over; whether it was ended from here."""
        if (alarm := self._alarms.pop(task, None)) is not None:
            alarm.cancel()
        tasks = self._open[credential.key]
        tasks.discard(task)
        if not tasks:
            del self._open[credential.key]
        was = task in self._ended
        self._ended.discard(task)
        return was

    def _late(self, key: str, task: asyncio.Task[object]) -> None:
        if task in self._open.get(key, ()):
            self._cut(task)

    def _cut(self, task: asyncio.Task[object]) -> None:
        if task not in self._ended:
            self._ended.add(task)
            task.cancel()


class Leased:
    """Ends streams whose credential ends."""

    def __init__(self, app: ASGIApp, leases: Leases) -> None:
        self._app = app
        self._leases = leases

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream = _Stream(scope, send, self._leases)
        try:
            await self._app(scope, receive, stream.send)
        except asyncio.CancelledError:
            if not stream.cut():
                raise
        except BaseException:
            stream.cut()  # it is over all the same
            raise
        else:
            stream.cut()  # whatever cancelled itself with us may have taken our cancellation for its own
        await stream.finish()


class _Stream:
    """What one request is answered with, where that is a stream."""

    def __init__(self, scope: Scope, send: Send, leases: Leases) -> None:
        self._scope = scope
        self._send = send
        self._leases = leases
        self._held: tuple[Credential, asyncio.Task[object]] | None = None
        self._open = False
        """It has begun, and not ended."""
        self._cut = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            credential = self._scope.get("state", {}).get(STATE)
            kind = Headers(raw=message.get("headers", [])).get("content-type", "")
            if isinstance(credential, Credential) and kind.startswith(EVENTS):
                self._held, self._open = (credential, self._leases.take(credential)), True
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self._open = False
        await self._send(message)

    def cut(self) -> bool:
        """Whether it was ended because its credential did; it is held no longer."""
        if self._held is None:
            return False
        held, self._held = self._held, None
        self._cut = self._leases.give_back(*held)
        if self._cut:
            held[1].uncancel()
        return self._cut

    async def finish(self) -> None:
        """Its end, as the protocol wants it."""
        if self._cut and self._open:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

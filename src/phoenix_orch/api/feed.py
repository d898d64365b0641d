"""One stream of messages: one producer, any number of viewers.

The producer reads when something has changed, or a second later where changes are not told, and only while
somebody looks. What it finds is written once, masked, into a ring; viewers send it on, each at its own pace.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import structlog

from phoenix_orch.api.ring import Ring
from phoenix_orch.kernel.errors import NotFound, PhoenixError

RING_BYTES = 1 << 20
"""Bytes of messages that a viewer may lag behind; above that it is told to read anew."""
TICK = 1.0
"""Seconds between two readings when no change is told: instances and router tell none."""
GAP = 0.1
"""Seconds between two readings at least, however fast changes come."""
LINGER = 30.0
"""Seconds that a feed outlives its last viewer, so that one who comes back misses nothing."""
KEEPALIVE = 15.0
"""Seconds of silence after which a viewer gets a comment: proxies close what is silent."""
CHUNK = 64 * 1024
"""Bytes that are sent at once, one larger message excepted."""
RETRY = 1000
"""Milliseconds after which a viewer comes back."""
LONGEST = 900.0
"""Seconds that one connection lasts: whoever comes back is asked for a right anew."""

_COMMENT = b": still here\n\n"
_log = structlog.get_logger("phoenix.api")


class Source(Protocol):
    """What a feed tells of."""

    def read(self) -> AsyncIterator[tuple[str, Any]]:
        """What is new since the last reading, as (event, data as in JSON).

        Raises NotFound when there is nothing to tell of any more, and what reading raises.
        """
        ...

    def snapshot(self) -> list[tuple[str, Any]]:
        """What somebody who comes now has to know first."""
        ...


class Feed:
    """One producer with its ring. It runs from the first viewer on, and ends after the last one."""

    def __init__(self, source: Source, masked: Callable[[Any], Any]) -> None:
        self._source = source
        self._masked = masked
        self._ring = Ring(secrets.token_hex(4), most=RING_BYTES)
        self._news = asyncio.Event()
        self._wanted = asyncio.Event()
        self._first = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._failed = False
        self.viewers = 0
        self.gone = False
        """There is nothing to tell of any more."""
        self.turned = 0
        """How often all viewers were told to come back."""

    @property
    def ended(self) -> bool:
        """Nobody looks and nothing runs: it may be forgotten."""
        return self.viewers == 0 and (self._running is None or self._running.done())

    def wake(self) -> None:
        """Something has changed."""
        self._wanted.set()

    def turn_away(self) -> None:
        """Tell all viewers to come back in a moment: this process ends, or its listener does."""
        self.turned += 1
        self._tell()

    async def aclose(self) -> None:
        """End the producer. For the end of the process, when nobody is answered any more."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def follow(self, last_id: str = "") -> AsyncGenerator[bytes]:
        """The stream as one viewer gets it: from the message after `last_id`, or from what is true now."""
        self.viewers += 1
        try:
            self.start()
            turned, loop = self.turned, asyncio.get_running_loop()
            end = loop.time() + LONGEST
            yield f"retry: {RETRY}\n\n".encode()
            await self._first.wait()
            position, anew = self._ring.position(last_id), bool(last_id)
            while True:
                news = self._news
                messages = self._after(position, anew=anew)
                position, anew = self._ring.last, True
                for chunk in chunks(messages):
                    yield chunk  # goes on when the transport took it: one that does not read lags behind
                if self.turned != turned or loop.time() > end:
                    yield self._ring.encoded("reconnect", "{}")
                    return
                if position == self._ring.last:
                    if self.gone:
                        return
                    if not await _happens(news, KEEPALIVE):
                        yield _COMMENT
        finally:
            self.viewers -= 1

    def _after(self, position: int | None, *, anew: bool) -> Sequence[bytes]:
        """What a viewer gets who has everything up to `position`, or has nothing, or lost some of it."""
        found = self._ring.since(position) if position is not None else None
        if found is not None:
            return found
        shown = [self._ring.encoded(event, self._text(data)) for event, data in self._source.snapshot()]
        return [self._ring.encoded("reset", "{}"), *shown] if anew else shown

    # -- the producer ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to produce, where that has ended or never began."""
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self._produce())

    async def _produce(self) -> None:
        loop = asyncio.get_running_loop()
        watched = loop.time()
        while not self.gone:
            self._wanted.clear()
            await self._read()
            self._first.set()
            if self.viewers:
                watched = loop.time()
            elif loop.time() - watched > LINGER:
                return
            await asyncio.sleep(GAP)
            await _happens(self._wanted, TICK - GAP)

    async def _read(self) -> None:
        try:
            async for event, data in self._source.read():
                self._ring.append(event, self._text(data))
            if self._failed:
                self._failed = False
                self._ring.append("reset", "{}")  # something may have been missed meanwhile
        except NotFound:
            self.gone = True
            self._ring.append("gone", "{}")
        except PhoenixError as error:
            if not self._failed:
                self._failed = True
                self._ring.append("away", self._text({"detail": error.message, "remedy": error.remedy}))
        except Exception as error:  # noqa: BLE001 - nobody awaits this task: viewers would wait for ever
            self.gone = True  # they end, and come back to a new feed
            _log.error("a stream failed", error=f"{type(error).__name__}: {error}")
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _text(self, data: Any) -> str:
        return json.dumps(self._masked(data), ensure_ascii=False, separators=(",", ":"))


def chunks(messages: Iterable[bytes]) -> Iterator[bytes]:
    """Messages in pieces that are sent at once: what comes together costs one call for each viewer."""
    piece: list[bytes] = []
    size = 0
    for message in messages:
        if piece and size + len(message) > CHUNK:
            yield b"".join(piece)
            piece, size = [], 0
        piece.append(message)
        size += len(message)
    if piece:
        yield b"".join(piece)


async def _happens(event: asyncio.Event, within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            await event.wait()
    except TimeoutError:
        return False
    return True

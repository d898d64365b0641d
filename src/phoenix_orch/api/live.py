"""The live streams of one process: a feed for each rollout that somebody looks at, and one of all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import Any, Protocol

from phoenix_orch.api.feed import TICK, Feed
from phoenix_orch.api.stream_sources import OverviewSource, RolloutSource
from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.orchestrator.operations_port import Operations

MOST_VIEWERS = 2000
"""Streams open at a time; each costs a connection and its buffer."""
PATIENCE = 2.0
"""Seconds that a stream waits until changes are told; it begins all the same."""


class Streams(Protocol):
    """Whoever has streams of their own."""

    def turn_away(self) -> None:
        """Tell all viewers to come back in a moment."""
        ...

    async def aclose(self) -> None:
        """End what produces them."""
        ...


class Live:
    """Opens streams. Changes are followed while there is one, by one watcher for all of them."""

    def __init__(self, operations: Operations, masked: Callable[[Any], Any]) -> None:
        """`masked`: makes data fit to leave."""
        self._operations = operations
        self._masked = masked
        self._feeds: dict[str, Feed] = {}
        self._overview: tuple[OverviewSource, Feed] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        """The watcher is told of changes from now on."""
        self.beside: list[Streams] = []
        """The streams of others in this process."""

    async def rollout(self, name: str, last_id: str) -> AsyncGenerator[bytes]:
        """The stream of one rollout. Raises NotFound, and Retryable when too many are open."""
        await self._operations.view(name)
        feed = self._feeds.get(name)
        if feed is None or feed.gone:
            feed = self._feeds[name] = Feed(RolloutSource(self._operations, name), self._masked)
        return await self._opened(feed, last_id)

    async def overview(self, last_id: str) -> AsyncGenerator[bytes]:
        """The stream of all rollouts. Raises Retryable when too many are open."""
        if self._overview is None or self._overview[1].gone:
            source = OverviewSource(self._operations)
            self._overview = source, Feed(source, self._masked)
        return await self._opened(self._overview[1], last_id)

    def turn_away(self) -> None:
        """Tell all viewers to come back: they do so within seconds, and are asked for their right anew."""
        for feed in self._all():
            feed.turn_away()
        for others in self.beside:
            others.turn_away()

    async def aclose(self) -> None:
        """End all that produces. For the end of the process, when nobody is answered any more."""
        for feed in self._all():
            await feed.aclose()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        for others in self.beside:
            await others.aclose()

    async def _opened(self, feed: Feed, last_id: str) -> AsyncGenerator[bytes]:
        self._forget_ended(feed)
        if sum(one.viewers for one in self._all()) >= MOST_VIEWERS:
            raise Retryable(
                f"{MOST_VIEWERS:,} streams are open already",
                remedy="close some, or read instead of following",
            )
        feed.start()
        if self._watching is None or self._watching.done():
            self._heard.clear()
            self._watching = asyncio.ensure_future(self._watch())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._heard.wait()  # what changes after the first message is told
        return feed.follow(last_id)

    def _all(self) -> list[Feed]:
        return [*self._feeds.values(), *([self._overview[1]] if self._overview else [])]

    def _forget_ended(self, needed: Feed) -> None:
        self._feeds = {name: feed for name, feed in self._feeds.items() if feed is needed or not feed.ended}

    async def _watch(self) -> None:
        """Wake who has to know; ends when nothing runs any more."""
        changes = self._operations.changes(timeout=timedelta(seconds=TICK))
        async with contextlib.aclosing(changes):
            async for name in changes:
                self._heard.set()
                if name in self._feeds:
                    self._feeds[name].wake()
                if name and self._overview is not None:
                    source, feed = self._overview
                    source.changed(name)
                    feed.wake()
                if not name and all(feed.ended for feed in self._all()):
                    return

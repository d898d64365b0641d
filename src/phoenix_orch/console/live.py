"""What pages show of things that move, rendered once for all viewers whenever it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import timedelta
from typing import Any

from phoenix_orch.api.feed import Feed, Source
from phoenix_orch.console import render
from phoenix_orch.console.judging import Judgement, Judging, nothing
from phoenix_orch.console.overview import overview
from phoenix_orch.console.track import acts, track
from phoenix_orch.kernel.errors import NotFound, Retryable
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.orchestrator.views import RolloutView

EVENTS = 8
"""Events on the page of a rollout."""
MOST_VIEWERS = 1000
JUDGED_EVERY = timedelta(seconds=2)
"""A release is judged again for its page at most so often."""


async def rollout_part(operations: Operations, judging: Judging, name: str) -> tuple[str, RolloutView]:
    """The moving part of a rollout's page. Raises NotFound."""
    view = await operations.view(name)
    events = await operations.events(name, EVENTS)
    judgement = await judgement_of(judging, view)
    return rollout_html(view, events, judgement), view


async def judgement_of(judging: Judging, view: RolloutView, number: int | None = None) -> Judgement:
    """Of the release that the page is about; of nothing where there was none yet."""
    try:
        return await judging.of(view, number)
    except NotFound:
        if number is not None:
            raise
        return nothing(view)


def rollout_html(view: RolloutView, events: list[Any], judgement: Judgement) -> str:
    return render.text(
        "rollout_live.html",
        view=view,
        status=view.rollout.status,
        stages=track(view),
        acts=acts(view),
        events=list(reversed(events)),
        why=judgement.explanation,
    )


async def overview_part(operations: Operations) -> str:
    """The moving part of the first page."""
    views, info, freezes = await asyncio.gather(
        operations.views(), operations.info(), operations.flow.freezes()
    )
    found = overview(views, info["components"], freezes)
    tracks = {view.rollout.name: track(view) for view in found.releasing}
    return render.text(
        "overview_live.html", views=views, found=found, tracks=tracks, components=info["components"]
    )


class RolloutPart:
    """`part` with the page's moving part, `charts` when there is something new to draw."""

    def __init__(self, operations: Operations, judging: Judging, name: str) -> None:
        self._operations = operations
        self._judging = judging
        self._name = name
        self._shown = ""
        self._drawn: tuple[object, ...] = ()
        self._judged: Judgement | None = None
        self._next = 0.0

    async def read(self) -> AsyncIterator[tuple[str, Any]]:
        view = await self._operations.view(self._name)
        events = await self._operations.events(self._name, EVENTS)
        now = asyncio.get_running_loop().time()
        if self._judged is None or now >= self._next:
            self._judged = await judgement_of(self._judging, view)
            self._next = now + JUDGED_EVERY.total_seconds()
        shown = rollout_html(view, events, self._judged)
        if shown != self._shown:
            self._shown = shown
            yield "part", shown
        why = self._judged.explanation
        drawn = (why.release, _last(self._judged), view.rollout.status.step)
        if drawn != self._drawn:
            self._drawn = drawn
            yield "charts", why.release

    def snapshot(self) -> list[tuple[str, Any]]:
        return [("part", self._shown), ("charts", 0)] if self._shown else []


def _last(judgement: Judgement) -> object:
    return judgement.charts[0]["x"][-1] if judgement.charts else None


class OverviewPart:
    """`part` with the moving part of the first page."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._shown = ""

    async def read(self) -> AsyncIterator[tuple[str, Any]]:
        shown = await overview_part(self._operations)
        if shown != self._shown:
            self._shown = shown
            yield "part", shown

    def snapshot(self) -> list[tuple[str, Any]]:
        return [("part", self._shown)] if self._shown else []


class Parts:
    """The streams of the console: one producer for each page that somebody looks at."""

    def __init__(self, operations: Operations, judging: Judging) -> None:
        self._operations = operations
        self._judging = judging
        self._feeds: dict[str, Feed] = {}

    async def rollout(self, name: str, last_id: str) -> AsyncGenerator[bytes]:
        """Raises NotFound, and Retryable when too many look."""
        await self._operations.view(name)
        return self._follow(
            f"rollout/{name}", lambda: RolloutPart(self._operations, self._judging, name), last_id
        )

    def overview(self, last_id: str) -> AsyncGenerator[bytes]:
        """Raises Retryable when too many look."""
        return self._follow("overview", lambda: OverviewPart(self._operations), last_id)

    def turn_away(self) -> None:
        """Tell all pages to come back: this process ends."""
        for feed in self._feeds.values():
            feed.turn_away()

    async def aclose(self) -> None:
        """End what produces them."""
        for feed in self._feeds.values():
            await feed.aclose()

    def _follow(self, key: str, source: Callable[[], Source], last_id: str) -> AsyncGenerator[bytes]:
        self._feeds = {name: feed for name, feed in self._feeds.items() if not (feed.ended or feed.gone)}
        if sum(feed.viewers for feed in self._feeds.values()) >= MOST_VIEWERS:
            raise Retryable(f"{MOST_VIEWERS:,} pages are followed already", remedy="close some, or load anew")
        if key not in self._feeds:
            self._feeds[key] = Feed(source(), lambda data: data)  # text that was made to be shown
        feed = self._feeds[key]
        feed.start()
        return feed.follow(last_id)

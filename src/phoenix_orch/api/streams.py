"""Server-sent events: `/stream` and `/rollouts/{name}/stream`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse
from starlette.types import Message, Send

from phoenix_orch.api.doors import READ
from phoenix_orch.api.live import Live

STALLED = 60.0
"""Seconds that a viewer may take none of what is sent. Who takes longer holds the place of another one: it is
closed, and may come back."""

LastId = Annotated[
    str, Header(alias="Last-Event-ID", max_length=100, description="Go on after the message with this id.")
]


class Stream(StreamingResponse):
    """Messages that are encoded already: once for all viewers, where `EventSourceResponse` would do it for
    each of them, with two tasks and two queues apiece."""

    media_type = "text/event-stream"

    def __init__(self, messages: AsyncGenerator[bytes]) -> None:
        super().__init__(messages, headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        self._messages = messages

    async def stream_response(self, send: Send) -> None:
        async def within(message: Message) -> None:
            async with asyncio.timeout(STALLED):
                await send(message)

        async with contextlib.aclosing(self._messages):
            with contextlib.suppress(TimeoutError):
                await super().stream_response(within)


def routes(live: Live) -> APIRouter:
    router = APIRouter(tags=["streams"], dependencies=[READ])

    @router.get("/stream", response_class=Stream, status_code=200)
    async def stream_overview(last_event_id: LastId = "") -> Stream:
        """Changes of all rollouts as they come: `rollout`, `gone`, `components`.

        Open it first and read the list then. After `reset` something was missed: read the list again.
        """
        return Stream(await live.overview(last_event_id))

    @router.get("/rollouts/{name}/stream", response_class=Stream, status_code=200)
    async def stream_rollout(name: str, last_event_id: LastId = "") -> Stream:
        """One rollout as it goes: `rollout` (its picture, also at the beginning), `verdict`, `event`,
        `observation`, `gone`.

        After `reset` something was missed: events and observations have to be read again.
        """
        return Stream(await live.rollout(name, last_event_id))

    return router

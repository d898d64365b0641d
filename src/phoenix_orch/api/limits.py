"""No request fills the memory: a body is read up to its largest size before anybody looks at it."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phoenix_orch.api.problems import document
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.limits import LARGEST_BODY

THROWN_AWAY = 16 * LARGEST_BODY
"""Bytes of a body that is too large which are read all the same: a client that is cut off while it sends
gets no answer."""
PATIENCE = 2.0
"""Seconds that this may take."""


class BodyLimit:
    """Answers 413 for a body above `LARGEST_BODY`, told or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = Headers(scope=scope).get("content-length", "")
        body = None if told.isdecimal() and int(told) > LARGEST_BODY else await _read(receive)
        if body is None:
            await _throw_away(receive)
            await _too_large()(scope, receive, send)
            return
        await self._app(scope, again(body, receive), send)


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None for one that is too large."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY:
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _throw_away(receive: Receive) -> None:
    left = THROWN_AWAY
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def again(body: bytes, receive: Receive) -> Receive:
    """Gives what was read once more, then what comes."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _too_large() -> ASGIApp:
    answer = document(
        413,
        Invalid.code,
        "Too large",
        f"the body has more than {LARGEST_BODY:,} bytes",
        "send less at once",
    )
    answer.headers["connection"] = "close"
    return answer

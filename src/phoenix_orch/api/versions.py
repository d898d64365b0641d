"""Every whole answer to a reading has a version, its `ETag`: who has it already gets 304 and no body."""

from __future__ import annotations

import hashlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST = 4 << 20
"""Bytes of an answer above which it is sent as it comes, without a version."""


def etag(body: bytes) -> str:
    """The version of an answer."""
    return f'"{hashlib.sha256(body).hexdigest()[:24]}"'


def holds(header: str, version: str) -> bool:
    """Whether `If-Match` or `If-None-Match` names the version; `*` names any."""
    named = {word.strip().removeprefix("W/") for word in header.split(",")}
    return "*" in named or version in named


class Versions:
    """ASGI middleware; looks at answers with status 200 in JSON whose length is known."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        held: Message | None = None

        async def versioned(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and _whole(message):
                held = message
                return
            if held is None or message["type"] != "http.response.body":
                await send(message)
                return
            start, held = held, None
            version = etag(message.get("body", b""))
            headers = MutableHeaders(raw=start["headers"])
            headers.setdefault("etag", version)
            headers.setdefault("cache-control", "no-cache")
            if holds(Headers(scope=scope).get("if-none-match", ""), headers["etag"]):
                del headers["content-length"], headers["content-type"]
                start, message = {**start, "status": 304}, {**message, "body": b""}
            await send({**start, "headers": headers.raw})
            await send(message)

        await self._app(scope, receive, versioned)


def _whole(message: Message) -> bool:
    headers = Headers(raw=message["headers"])
    return (
        message["status"] == 200
        and headers.get("content-type", "").startswith("application/json")
        and headers.get("content-length", "").isdecimal()
        and int(headers["content-length"]) <= LARGEST
    )

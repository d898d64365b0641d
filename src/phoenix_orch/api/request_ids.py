"""One id for each request: in its answer, in problem documents and in every line that is logged meanwhile.

Taken from `X-Request-ID` where that is short and plain, so that a caller finds its own request again; else
made here.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phoenix_orch.security.acting import current

HEADER = "X-Request-ID"
_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_made: ContextVar[str] = ContextVar("phoenix_request_id", default="")


def request_id() -> str:
    """Of the request that is answered now; empty outside of one."""
    return _made.get()


class RequestIds:
    """Gives each request its id; forgets at the end who asked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        name = given if _SANE.fullmatch(given) else secrets.token_hex(8)

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = name
            await send(message)

        made, caller = _made.set(name), current.set(None)
        try:
            with structlog.contextvars.bound_contextvars(request_id=name):
                await self._app(scope, receive, marked)
        finally:
            _made.reset(made)
            current.reset(caller)

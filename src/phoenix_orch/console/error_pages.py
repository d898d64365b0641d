"""What a browser gets below /console where no page of ours answers: words as a page, and no JSON.

An address that is none, a method that is not for it, a body that is too large, a fault nobody foresaw: all
are answered as problem documents before any route of the console is asked. Programs get those as ever.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phoenix_orch.console import render
from phoenix_orch.console.frame import ROOT

PROBLEM = "application/problem+json"
_KEPT = frozenset({"allow", "retry-after", "x-request-id", "www-authenticate", "strict-transport-security"})
"""Headers of a problem that the page has, too."""
_REMEDY = "go to the overview, and follow a link from there"
"""In place of one that is for programs."""


class ErrorPages:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _by_browser(scope):
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def as_page(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and _is_problem(message):
                start = message
                return
            if start is None or message["type"] != "http.response.body":
                await send(message)
                return
            body += message.get("body", b"")
            if not message.get("more_body", False):
                await _page(start, body)(scope, receive, send)

        await self._app(scope, receive, as_page)


def _by_browser(scope: Scope) -> bool:
    """It shows a page to somebody, and asks for one of the console."""
    path = str(scope["path"])
    below = path == ROOT or path.startswith(f"{ROOT}/")
    return below and "text/html" in Headers(scope=scope).get("accept", "")


def _is_problem(message: Message) -> bool:
    return Headers(raw=message["headers"]).get("content-type", "").startswith(PROBLEM)


def _page(start: Message, body: bytes) -> Any:
    document = json.loads(body)
    status = int(start["status"])
    remedy = _REMEDY if status in (404, 405) else str(document.get("remedy", ""))
    error = {"message": str(document.get("detail", "")), "remedy": remedy}
    answer = render.page(
        "error.html", status=status, code=status, heading=str(document["title"]), error=error
    )
    for name, value in Headers(raw=start["headers"]).items():
        if name in _KEPT:
            answer.headers[name] = value
    return answer

"""Every request is counted, timed and traced, whatever becomes of it. Addresses and bodies are not kept."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phoenix_orch.api.doors import READ
from phoenix_orch.observability import metrics, tracing
from phoenix_orch.observability.traceparent import HEADER

UNMATCHED = "unmatched"
"""In place of the address of a request that no route is for: there is no end to those."""
GONE = 499
"""Of a client that went away before there was an answer, as nginx says it."""
EVENTS = "text/event-stream"


def routes() -> APIRouter:
    router = APIRouter(tags=["phoenix"])

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
        dependencies=[READ],
    )
    async def get_metrics(request: Request) -> Response:
        """Metrics for Prometheus; OpenMetrics with exemplars for whoever accepts it."""
        accept = request.headers.get("accept", "")
        body, content_type = await asyncio.to_thread(metrics.page, accept)
        return Response(body, media_type=content_type)

    return router


class Measured:
    """Outermost, so that it sees what is really answered."""

    def __init__(self, app: ASGIApp, prefix: str = "") -> None:
        """`prefix`: before the paths of routes that are included with it."""
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, answer = time.perf_counter(), _Answer(send)
        path = scope["path"]
        caller = Headers(scope=scope).get(HEADER, "")
        with tracing.span("request", serves=True, caller=caller) as span:
            try:
                await self._app(scope, receive, answer.send)
            finally:
                route = template(scope.get("route"), path, self._prefix)
                method = metrics.method_of(scope["method"])
                span.name(f"{method} {route}")
                span.set("http.request.method", method)
                span.set("http.route", route)
                span.set("http.response.status_code", answer.status)
                if answer.status >= 500:
                    span.fail(str(answer.status))
                ended = time.perf_counter() if answer.at is None else answer.at
                metrics.request_answered(method, route, answer.status, ended - begun)


class _Answer:
    """What is sent, and when that counts as answered."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = GONE
        self.at: float | None = None

    async def send(self, message: Message) -> None:
        await self._send(message)
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if Headers(raw=message.get("headers", [])).get("content-type", "").startswith(EVENTS):
                self.at = time.perf_counter()  # the stream lasts as long as somebody looks


def template(route: Any, path: str, prefix: str) -> str:
    """Of the address of a route, whole: one that was included with a prefix does not know it."""
    own = str(getattr(route, "path", UNMATCHED))
    included = own.startswith("/") and path.startswith(f"{prefix}/") and not own.startswith(f"{prefix}/")
    return prefix + own if included else own

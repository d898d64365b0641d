"""Each request becomes a line of the access log, whatever becomes of it. What it carried is not kept."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phoenix_orch.api.measured import GONE, template
from phoenix_orch.api.request_ids import request_id
from phoenix_orch.observability import metrics
from phoenix_orch.observability.access_log import Access, AccessLog
from phoenix_orch.security.acting import current


class Accessed:
    """Inside of the request's id, and outside of everything that may answer."""

    def __init__(self, app: ASGIApp, log: AccessLog, prefix: str = "") -> None:
        """`prefix`: before the paths of routes that are included with it."""
        self._app = app
        self._log = log
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        at, begun, path, status = datetime.now(UTC), time.perf_counter(), scope["path"], GONE

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            status = 500  # answered further out
            raise
        finally:
            caller, client = current.get(), scope.get("client")
            self._log.add(
                Access(
                    at=at,
                    request_id=request_id(),
                    principal=caller.name if caller is not None else "",
                    method=metrics.method_of(scope["method"]),
                    route=template(scope.get("route"), path, self._prefix),
                    status=status,
                    milliseconds=(time.perf_counter() - begun) * 1000,
                    address=client[0] if client and client[0] else "unix",
                )
            )

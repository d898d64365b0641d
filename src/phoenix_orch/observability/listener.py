"""`/metrics` of a process without an API, on a port of its own: who may call the probes need not see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from phoenix_orch.observability import metrics
from phoenix_orch.runtime.pages import Asked, Page, serve_pages

PATH = "/metrics"


async def serve_metrics(host: str, port: int, listening: Callable[[int], None]) -> None:
    """Answer until cancelled. `listening` is called with the port, which 0 leaves to the system.

    Raises OSError where the address is taken.
    """
    await serve_pages(host, port, _answer, listening)


async def _answer(asked: Asked) -> Page:
    if asked.path != PATH:
        return Page(404, b"there is /metrics\n")
    body, content_type = await asyncio.to_thread(metrics.page, asked.accept)
    return Page(200, body, content_type, route=PATH)

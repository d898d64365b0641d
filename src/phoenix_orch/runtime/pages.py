"""A few pages over HTTP for whoever watches a process from outside: one request, one answer, no framework.

Answered by the event loop that does the work: when that stands still, nobody answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

READ_PATIENCE = 5.0
"""Seconds for a request to arrive and its answer to leave."""
_LONGEST = 8192


class Asked(NamedTuple):
    """What there is to know of a request. Empty where it was no HTTP."""

    method: str
    path: str
    """Without the query."""
    accept: str


class Page(NamedTuple):
    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    route: str = "unmatched"
    """The page that it is, for those who count."""


Answer = Callable[[Asked], Awaitable[Page]]
Answered = Callable[[str, str, int, float], None]
"""Told of each answer: method, route, status, seconds."""

_REASONS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


async def serve_pages(
    host: str, port: int, answer: Answer, listening: Callable[[int], None], answered: Answered | None = None
) -> None:
    """Answer until cancelled. `listening` is called with the port, which 0 leaves to the system.

    Raises OSError where the address is taken.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
            async with asyncio.timeout(READ_PATIENCE):
                asked = parse(await reader.readuntil(b"\r\n\r\n"))
                begun = time.perf_counter()
                page = await answer(asked)
                writer.write(_head(page) + page.body)
                await writer.drain()
                if answered is not None:
                    answered(asked.method, page.route, page.status, time.perf_counter() - begun)
        writer.close()

    server = await asyncio.start_server(serve, host, port, limit=_LONGEST)
    async with server:
        listening(server.sockets[0].getsockname()[1])
        await server.serve_forever()


def parse(head: bytes) -> Asked:
    """Of a request's first lines. Pure."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, *_ = [*first.split(" "), "", ""]
    fields = (line.partition(":") for line in lines)
    accept = next((value.strip() for name, _, value in fields if name.strip().lower() == "accept"), "")
    return Asked(method, path.partition("?")[0], accept)


def _head(page: Page) -> bytes:
    return (
        f"HTTP/1.1 {page.status} {_REASONS[page.status]}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\nConnection: close\r\n\r\n"
    ).encode()

"""`/livez` and `/readyz` for whoever watches a process from outside, as kubelet does.

Answered by the event loop that does the work: when that stands still, nobody answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

READ_PATIENCE = 5.0
"""Seconds for a request to arrive."""
_LONGEST = 8192

NotReady = Callable[[], str]
"""Why the process cannot do its work yet; empty: it can."""


async def serve_probes(host: str, port: int, not_ready: NotReady, listening: Callable[[int], None]) -> None:
    """Answer until cancelled. `listening` is called with the port, which 0 leaves to the system.

    Raises OSError where the address is taken.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, EOFError, asyncio.LimitOverrunError):
            async with asyncio.timeout(READ_PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(head, not_ready))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host, port, limit=_LONGEST)
    async with server:
        listening(server.sockets[0].getsockname()[1])
        await server.serve_forever()


def _answer(head: bytes, not_ready: NotReady) -> bytes:
    words = head.split(b" ", 2)
    path = words[1].split(b"?")[0] if len(words) > 1 else b""
    if path == b"/livez":
        status, text = "200 OK", "ok"
    elif path == b"/readyz":
        why = not_ready()
        status, text = ("503 Service Unavailable", why) if why else ("200 OK", "ok")
    else:
        status, text = "404 Not Found", "there are /livez and /readyz"
    body = f"{text}\n".encode()
    head_out = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
    return f"{head_out}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body

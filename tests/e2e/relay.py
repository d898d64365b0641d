"""A TCP port that leads to the unix socket of a Phoenix: who asks there is the test's user, an admin."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def relay(socket: Path) -> Iterator[str]:
    """The address to open in a browser."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    address: list[str] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()

    async def pair(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner, outer = await asyncio.open_unix_connection(str(socket))
        except OSError:  # Phoenix is away
            writer.close()
            return
        await asyncio.gather(carry(reader, outer), carry(inner, writer))

    async def run() -> None:
        server = await asyncio.start_server(pair, "127.0.0.1", 0)
        address.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        ready.set()
        await stop
        server.close()

    async def ended(left: set[asyncio.Task[Any]]) -> None:
        await asyncio.gather(*left, return_exceptions=True)
        for _ in range(5):
            await asyncio.sleep(0)  # transports close at the next turns of the loop

    stop: asyncio.Future[None] = loop.create_future()

    def main() -> None:
        loop.run_until_complete(run())
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(ended(left))
        loop.close()

    thread = threading.Thread(target=main, name="relay", daemon=True)
    thread.start()
    ready.wait()
    try:
        yield address[0]
    finally:
        loop.call_soon_threadsafe(stop.set_result, None)
        thread.join(10)

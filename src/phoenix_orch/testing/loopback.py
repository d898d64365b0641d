"""A backend that says its name, and users that never stop asking: HTTP/1.1 over loopback.

`python -m phoenix_orch.testing.loopback NAME PORT` serves in a process of its own, to be killed: it
prints its port once it listens and answers every request with NAME.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

_PATIENCE = 10.0


@asynccontextmanager
async def named_server(name: str, port: int = 0, *, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Answer every request with `name`; gives the port."""
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(name)}\r\n\r\n{name}".encode()
    open_connections: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_connections.add(writer)
        try:
            while True:
                _, headers = await _head(reader)
                await reader.readexactly(int(headers.get("content-length", 0)))
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            open_connections.discard(writer)
            writer.close()

    server = await asyncio.start_server(serve, host, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in tuple(open_connections):
            writer.close()


def quiet_port() -> int:
    """A free port that the kernel never gives to outgoing connections (on Linux).

    A backend that is to die has to have one: a connection to a dead port of the kernel's own range may
    be given that very port as its source, and is then connected to itself.
    """
    for port in random.sample(range(20000, 30000), 1000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port from 20000 to 30000")


class Load:
    """Users on keep-alive connections, each asking again as soon as it was answered.

    `answers` counts bodies of good answers, `failures` everything else, with what it was.
    """

    def __init__(self, port: int, *, users: int = 8, method: str = "GET") -> None:
        self.answers: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._port = port
        self._users = users
        body = "content-length: 2\r\n\r\nhi" if method == "POST" else "\r\n"
        self._request = f"{method} / HTTP/1.1\r\nHost: loopback\r\n{body}".encode()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        """Ask for as long as the block lasts."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._users):
                tasks.create_task(self._user(stop))
            try:
                yield self
            finally:
                stop.set()

    async def ask(self, count: int) -> None:
        """So many requests, one after the other on one connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        for _ in range(count):
            await self._once(reader, writer)
        writer.close()
        await writer.wait_closed()

    async def _user(self, stop: asyncio.Event) -> None:
        writer: asyncio.StreamWriter | None = None
        while not stop.is_set():
            try:
                async with asyncio.timeout(_PATIENCE):
                    if writer is None:
                        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                    keep = await self._once(reader, writer)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.failures[type(error).__name__] += 1
                keep = False
            if not keep and writer is not None:
                writer.close()
                writer = None
        if writer is not None:
            writer.close()

    async def _once(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection may be used again."""
        writer.write(self._request)
        status, headers = await _head(reader)
        body = (await reader.readexactly(int(headers.get("content-length", 0)))).decode()
        if status.split()[1] == "200":
            self.answers[body] += 1
        else:
            self.failures[f"{status} {body}"] += 1
        return headers.get("connection") != "close"


async def _head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines[1:] if line)
    return lines[0], {name.strip().lower(): value.strip().lower() for name, value in pairs}


async def _main(name: str, wanted: int) -> None:
    async with named_server(name, wanted) as port:
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


async def wait_until(what: str, condition: Callable[[], Awaitable[bool]], within: float = 10.0) -> float:
    """Await `condition()` every 5 ms until it is true; gives the seconds it took, fails after `within`."""
    begun = time.monotonic()
    while not await condition():
        assert time.monotonic() - begun < within, f"not within {within:g} s: {what}"
        await asyncio.sleep(0.005)
    return time.monotonic() - begun


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))

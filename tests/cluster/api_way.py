"""A way to the API server that can be cut and opened again: connections end, and new ones are refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.cluster.kubectl import Cluster


class Way:
    """Runs in the event loop that made it; `cut` may be called from any thread."""

    def __init__(self, host: str, port: int) -> None:
        self._there = (host, port)
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._pipes = set[asyncio.StreamWriter]()
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._through, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for pipe in list(self._pipes):
            pipe.transport.abort()

    def cut(self) -> None:
        """Returns when nothing gets through any more. Not from the thread of the event loop."""
        asyncio.run_coroutine_threadsafe(self.shut(), self._loop).result(30)

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._there)
        self._pipes |= {writer, there_writer}
        try:
            await asyncio.gather(_pumped(reader, there_writer), _pumped(there_reader, writer))
        finally:
            for one in (writer, there_writer):
                self._pipes.discard(one)
                one.transport.abort()


async def _pumped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
        writer.write_eof() if writer.can_write_eof() else writer.transport.abort()


@contextlib.asynccontextmanager
async def way_to(cluster: Cluster, folder: Path) -> AsyncIterator[tuple[Way, Path]]:
    """And the kubeconfig of the administrator that leads through it."""
    words = ("config", "view", "--minify", "--flatten", "--raw", "-o", "json")
    view = json.loads(await asyncio.to_thread(cluster.kubectl, *words))
    found = urlsplit(view["clusters"][0]["cluster"]["server"])
    assert found.hostname is not None
    assert found.port is not None
    way = Way(found.hostname, found.port)
    await way.open()
    view["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{way.port}"
    path = folder / "way.kubeconfig"
    path.write_text(json.dumps(view))
    path.chmod(0o600)
    try:
        yield way, path
    finally:
        await way.shut()

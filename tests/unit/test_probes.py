"""/livez and /readyz."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest

from phoenix_orch.runtime.probes import serve_probes


class Process:
    why = "rollouts: not listed yet"

    def not_ready(self) -> str:
        return self.why


@contextlib.asynccontextmanager
async def served(process: Process) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    port: asyncio.Future[int] = loop.create_future()
    task = asyncio.create_task(serve_probes("127.0.0.1", 0, process.not_ready, port.set_result))
    yield await port
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_alive_at_once_and_ready_when_it_knows_the_cluster() -> None:
    process = Process()
    async with served(process) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        assert (await http.get("/livez")).status_code == httpx.codes.OK
        waiting = await http.get("/readyz")
        assert (waiting.status_code, waiting.text) == (503, "rollouts: not listed yet\n")
        process.why = ""
        assert (await http.get("/readyz?verbose")).status_code == httpx.codes.OK
        assert (await http.get("/")).status_code == httpx.codes.NOT_FOUND


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n", b"x" * 20_000, b"GET\r\n\r\n"])
async def test_what_is_no_request_ends_nothing(sent: bytes) -> None:
    process = Process()
    async with served(process) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        with contextlib.suppress(OSError):
            writer.write_eof()
            await reader.read()
        writer.close()
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"http://127.0.0.1:{port}/livez")).status_code == httpx.codes.OK

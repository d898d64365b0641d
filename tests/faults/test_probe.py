"""Probes of health paths: what they say, what they leave open, and that Phoenix does not blame others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from phoenix_orch.testing.loopback import quiet_port
from phoenix_orch.workload.probe import HealthProbe, Look
from phoenix_orch.workload.spec import Health

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
SHORT = Health(timeout=timedelta(milliseconds=300))
LONG = Health(timeout=timedelta(seconds=20))

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[int]:
    """A port where `answer` has every connection."""
    peers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        peers.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await answer(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for peer in peers:
            peer.cancel()
        await asyncio.gather(*peers, return_exceptions=True)


def says(*pieces: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)

    return answer


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(3600)


def sockets() -> int:
    """Open sockets of this process."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += os.readlink(entry).startswith("socket:")  # noqa: PTH115 - no path, but a name
    return found


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((OK,), Look.GOOD),
        ((b"HTTP/1.0 204 No Content\r\n\r\n",), Look.GOOD),
        ((b"HT", b"TP/1.1 2", b"00 OK\r", b"\n"), Look.GOOD),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", OK), Look.GOOD),
        ((b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,), Look.GOOD),
        ((b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",), Look.BAD),
        ((b"HTTP/1.1 503 Service Unavailable\r\n\r\n",), Look.BAD),
        ((b"HTTP/1.1 200 ",), Look.BAD),
        ((b"SSH-2.0-OpenSSH_9.2\r\n",), Look.BAD),
        ((b"HTTP/1.1 2x0 OK\r\n\r\n",), Look.BAD),
        ((b"\x00\xff" * 50_000,), Look.BAD),
        ((), Look.BAD),
    ],
)
async def test_only_2xx_is_good(pieces: tuple[bytes, ...], expected: Look) -> None:
    async with serving(says(*pieces)) as port:
        with HealthProbe() as probe:
            assert await probe.look(port, LONG) is expected


async def test_what_is_asked_is_one_request_whatever_the_path_holds() -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)

    async with serving(listen) as port:
        with HealthProbe() as probe:
            await probe.look(port, Health(path="/a b?c=d&e=%20#f", timeout=LONG.timeout))
            await probe.look(port, Health(path="/é\r\nX-Evil: 1", timeout=LONG.timeout))
    lines = [request.split(b"\r\n") for request in heard]
    assert [line[0] for line in lines] == [
        b"GET /a%20b?c=d&e=%20 HTTP/1.1",
        b"GET /%C3%A9%0D%0AX-Evil:%201 HTTP/1.1",
    ]
    assert all(b"Connection: close" in line and b"Host: 127.0.0.1:%d" % port in line for line in lines)


async def test_no_socket_is_left_open_however_a_look_ends() -> None:
    before = sockets()
    with HealthProbe() as probe:
        async with serving(silent) as port:
            looks = [asyncio.create_task(probe.look(port, SHORT)) for _ in range(20)]
            cancelled = [asyncio.create_task(probe.look(port, LONG)) for _ in range(20)]
            assert set(await asyncio.gather(*looks)) <= {Look.BAD, Look.UNKNOWN}
            for look in cancelled:
                look.cancel()
            await asyncio.gather(*cancelled, return_exceptions=True)
        for answer in (says(OK), says(b"HTTP/1.1 500 No\r\n\r\n"), says(b"nonsense"), says()):
            async with serving(answer) as port:
                await asyncio.gather(*(probe.look(port, LONG) for _ in range(10)))
        assert await probe.look(quiet_port(), LONG) is Look.BAD  # nobody listens
    deadline = time.monotonic() + 10.0
    while (left := sockets()) > before:
        assert time.monotonic() < deadline, f"{left - before} sockets are open"
        await asyncio.sleep(0.01)


async def test_silence_is_bad_as_long_as_the_loop_runs() -> None:
    async with serving(silent) as port:
        with HealthProbe() as probe:
            for _ in range(20):  # a busy machine may make some of them late
                if (look := await probe.look(port, SHORT)) is Look.BAD:
                    break
            assert look is Look.BAD


async def test_a_look_that_ran_out_of_time_because_the_loop_stood_still_says_nothing() -> None:
    async with serving(silent) as port:
        with HealthProbe() as probe:
            look = asyncio.create_task(probe.look(port, SHORT))
            await asyncio.sleep(0.01)
            time.sleep(2 * SHORT.timeout.total_seconds())  # noqa: ASYNC251 - to be stuck is the point
            assert await look is Look.UNKNOWN


async def test_a_refusal_is_bad_however_late_the_loop_is() -> None:
    port = quiet_port()
    with HealthProbe() as probe:
        look = asyncio.create_task(probe.look(port, SHORT))
        time.sleep(2 * SHORT.timeout.total_seconds())  # noqa: ASYNC251 - to be stuck is the point
        assert await look is Look.BAD


async def test_looks_wait_for_their_turn_and_the_wait_is_not_held_against_anybody() -> None:
    under_way = most = 0

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        await reader.readuntil(b"\r\n\r\n")
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.1)
        under_way -= 1
        writer.write(OK)

    health = Health(timeout=timedelta(seconds=1))
    async with serving(slowly) as port:
        with HealthProbe(at_once=2) as probe:
            looks = await asyncio.gather(*(probe.look(port, health) for _ in range(24)))
    assert most <= 2
    assert Look.BAD not in looks

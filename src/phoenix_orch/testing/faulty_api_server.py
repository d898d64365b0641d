"""A proxy on loopback in front of a real API server, which does wrong what a test says.

Everything else goes through as it is: the objects, conflicts, versions and errors are the real ones.

    async with FaultyApiServer(load(kubeconfig)) as server:
        server.inject(Answer(429, retry_after=1), verb="patch", times=3)
        client = KubeClient(server.target)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Self
from urllib.parse import urlsplit

from phoenix_orch.kube.config import Target
from phoenix_orch.kube.wire import tls_context
from phoenix_orch.testing.api_faults import (
    Answer,
    Asked,
    Breaks,
    Fault,
    Half,
    Hang,
    Meanwhile,
    Reset,
    Rule,
    Slow,
    Swallow,
    WatchBreaks,
    always,
    asked_for,
)

_DROPPED_HEADERS = {"connection", "content-length", "transfer-encoding", "keep-alive", "host"}
_IN_STREAM = {
    Breaks.GONE: Answer(410, "Expired"),
    Breaks.ERROR: Answer(500, "InternalError"),
    Breaks.THROTTLED: Answer(429, "TooManyRequests", retry_after=1),
}


class _Broken(Exception):
    """A connection is over."""


class FaultyApiServer:
    """Listens while its block lasts. Clients that use `target` are whom the given target says."""

    def __init__(self, upstream: Target, *, seed: int = 0) -> None:
        self.asked: list[Asked] = []
        """Every request that came, in order."""
        self._upstream = upstream
        self._tls: ssl.SSLContext | None = None
        self._rules: list[Rule] = []
        self._random = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        self.lead_to(self._upstream)
        await self.listen()
        return self

    def lead_to(self, upstream: Target) -> None:
        """From now on the API server is this one: as after a cluster was restored from a backup."""
        self._upstream = upstream
        secure = urlsplit(upstream.server).scheme == "https"
        self._tls = tls_context(upstream) if secure else None

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()

    @property
    def target(self) -> Target:
        """The way to this proxy. Certificates of the user are shown to the real one by the proxy."""
        single = self._upstream.single
        cluster = type(single.cluster)(server=f"http://127.0.0.1:{self._port}")
        return Target(single._replace(cluster=cluster), self._upstream.namespace)

    def inject(
        self,
        fault: Fault,
        *,
        verb: str | frozenset[str] = frozenset(),
        resource: str = "",
        name: str = "",
        times: int = 1,
        skip: int = 0,
        share: float = 1.0,
        where: Callable[[Asked], bool] = always,
    ) -> Rule:
        """Do `fault` to the next requests that are like this; to a `share` of them. Gives its count.

        `where`: and of which this holds; it sees every request that the other words fit, once."""
        verbs = frozenset({verb}) if isinstance(verb, str) else verb

        def matches(asked: Asked) -> bool:
            return (
                (not verbs or asked.verb in verbs)
                and resource in {"", asked.resource}
                and name in {"", asked.name}
                and where(asked)
            )

        rule = Rule(fault, matches, times, skip, lambda: self._random.random() < share)
        self._rules.append(rule)
        return rule

    def heal(self) -> None:
        """No more faults."""
        self._rules.clear()

    async def listen(self) -> None:
        """Take connections, at the same port as before."""
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections and reset those there are: the API server is down."""
        if self._server is not None:
            self._server.close()
        await self.break_connections()

    async def break_connections(self) -> None:
        """Reset every connection there is."""
        connections = dict(self._open)
        for task, writer in connections.items():
            _reset(writer)
            task.cancel()
        if connections:
            await asyncio.wait(connections)

    def count(self, verb: str, resource: str = "") -> int:
        """How many such requests came."""
        return sum(asked.verb == verb and resource in {"", asked.resource} for asked in self.asked)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            while True:
                await self._request(reader, writer)
        except (_Broken, asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # cancelled by `break_connections` only
        finally:
            del self._open[task]
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, headers = await _head(reader)
        method, target, _ = line.split(" ")
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        asked = asked_for(method, target, body)
        self.asked.append(asked)
        rule = next((rule for rule in self._rules if rule.strikes(asked)), None)
        fault = rule.fault if rule is not None else None
        match fault:
            case Answer():
                await _answer(writer, fault)
                return
            case Slow(seconds):
                await asyncio.sleep(seconds)
            case Reset(done=False):
                _reset(writer)
                raise _Broken
            case Meanwhile(happens):
                await happens()
            case Hang(done=False):
                await _hang(writer, fault, rule)
        async with self._ask(line, headers, body) as (said, heads, rest):
            if asked.verb == "watch" and said.split()[1] == "200":
                await _Relay(writer, fault).run(said, heads, rest)
                raise _Broken
            data = b"".join([piece async for piece in rest])
        match fault:
            case Reset(done=True):
                _reset(writer)
                raise _Broken
            case Hang(done=True):
                await _hang(writer, fault, rule)
        _write_head(writer, said, heads, f"Content-Length: {len(data)}")
        writer.write(data[: len(data) // 2] if isinstance(fault, Half) else data)
        await writer.drain()
        if isinstance(fault, Half):
            raise _Broken

    @contextlib.asynccontextmanager
    async def _ask(
        self, line: str, headers: Mapping[str, str], body: bytes
    ) -> AsyncIterator[tuple[str, Mapping[str, str], AsyncIterator[bytes]]]:
        """Ask the real one over a connection for this alone."""
        url = urlsplit(self._upstream.server)
        reader, writer = await asyncio.open_connection(url.hostname, url.port or 443, ssl=self._tls)
        try:
            kept = {name: value for name, value in headers.items() if name not in _DROPPED_HEADERS}
            kept |= {"host": url.netloc, "connection": "close", "content-length": str(len(body))}
            head = "".join(f"{name}: {value}\r\n" for name, value in kept.items())
            writer.write(f"{line}\r\n{head}\r\n".encode() + body)
            said, answered = await _head(reader)
            yield said, answered, _body(reader, answered)
        finally:
            writer.transport.abort()


class _Relay:
    """Passes a watch on, event by event, until it breaks."""

    def __init__(self, writer: asyncio.StreamWriter, fault: Fault | None) -> None:
        self._writer = writer
        self._swallow = fault.events if isinstance(fault, Swallow) else 0
        self._breaks = fault if isinstance(fault, WatchBreaks) else None
        self._passed = 0

    async def run(self, said: str, headers: Mapping[str, str], pieces: AsyncIterator[bytes]) -> None:
        _write_head(self._writer, said, headers, "Transfer-Encoding: chunked")
        await self._writer.drain()
        await self._break_if_due(b"")
        async for line in _lines(pieces):
            await self._break_if_due(line)
            if self._swallow and b'"type":"BOOKMARK"' not in line:
                self._swallow -= 1
                continue
            self._chunk(line)
            await self._writer.drain()
            self._passed += 1
        self._chunk(b"")
        await self._writer.drain()

    async def _break_if_due(self, line: bytes) -> None:
        """Half a line needs a line to halve: it waits for the next event."""
        breaks = self._breaks
        if breaks is None or self._passed < breaks.events:
            return
        match breaks.how:
            case Breaks.EOF:
                self._chunk(b"")
            case Breaks.RESET:
                _reset(self._writer)
            case Breaks.HALF_LINE:
                if not line:
                    return
                self._chunk(line[: len(line) // 2])
                self._chunk(b"")
            case Breaks.GARBAGE:
                self._chunk(b"}{ no event\n")
            case Breaks.SILENCE:
                await asyncio.Event().wait()
            case how:
                error = {"type": "ERROR", "object": _IN_STREAM[how].status()}
                self._chunk(json.dumps(error).encode() + b"\n")
                self._chunk(b"")
        if breaks.how is not Breaks.RESET:
            await self._writer.drain()
        raise _Broken

    def _chunk(self, data: bytes) -> None:
        """An empty one ends the answer."""
        self._writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def _hang(writer: asyncio.StreamWriter, fault: Hang, rule: Rule | None) -> None:
    if rule is not None:
        rule.held += 1
    await asyncio.sleep(fault.seconds)
    _reset(writer)
    raise _Broken


async def _answer(writer: asyncio.StreamWriter, answer: Answer) -> None:
    body = answer.body()
    headers = {"content-type": "application/json"}
    if answer.retry_after is not None:
        headers["retry-after"] = str(answer.retry_after)
    _write_head(writer, f"HTTP/1.1 {answer.code} Made-Up", headers, f"Content-Length: {len(body)}")
    writer.write(body)
    await writer.drain()


def _write_head(writer: asyncio.StreamWriter, said: str, headers: Mapping[str, str], length: str) -> None:
    kept = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if name not in _DROPPED_HEADERS)
    writer.write(f"{said}\r\n{kept}{length}\r\n\r\n".encode())


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with a TCP reset, not in order."""
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines[1:] if line)
    return lines[0], {name.strip().lower(): value.strip() for name, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    if "chunked" not in headers.get("transfer-encoding", ""):
        yield await reader.readexactly(int(headers.get("content-length", 0)))
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line + b"\n"

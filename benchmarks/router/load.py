"""A small HTTP/1.1 client and the three ways the benchmark uses it."""

import asyncio
import time
from dataclasses import dataclass
from typing import Self

ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One request as the client saw it; status 0 means no answer came."""

    sent: float
    received: float
    status: int
    body: str
    resent: bool = False

    @property
    def failed(self) -> bool:
        return self.status != 200

    @property
    def seconds(self) -> float:
        return self.received - self.sent


class StaleConnection(Exception):
    """The server closed a kept-alive connection before any byte of the answer."""


class Connection:
    """One client connection that opens itself when it is needed.

    A request that dies on a reused connection before any byte came back is sent once
    more on a fresh one, as RFC 9110 9.2.2 allows; ``Answer.resent`` says that it was.
    """

    def __init__(self, port: int, *, keep_alive: bool = True) -> None:
        self._port = port
        self._keep_alive = keep_alive
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str = "/") -> Answer:
        sent = time.perf_counter()
        status, body, resent = 0, "", False
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                try:
                    status, body = await self._exchange(path)
                except StaleConnection:
                    resent = True
                    status, body = await self._exchange(path)
        except (OSError, EOFError, TimeoutError, StaleConnection):
            self.close()
        return Answer(sent, time.perf_counter(), status, body, resent)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self, path: str) -> tuple[int, str]:
        if self._streams is not None and self._streams[0].at_eof():
            self.close()  # closed while idle and known before sending: no request is at stake
        reused = self._streams is not None
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        connection = "keep-alive" if self._keep_alive else "close"
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: {connection}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self.close()
            if reused and not getattr(error, "partial", b""):
                raise StaleConnection from error
            raise
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        body = await reader.readexactly(int(fields.get(b"content-length", 0)))
        if not self._keep_alive or fields.get(b"connection") == b"close":
            self.close()
        return int(head[9:12]), body.decode()


async def sequential(port: int, seconds: float) -> list[Answer]:
    """One request after the other on one connection."""
    connection, answers = Connection(port), []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        answers.append(await connection.get())
    connection.close()
    return answers


async def burst(port: int, count: int, connections: int, path: str = "/") -> list[Answer]:
    """``count`` requests as fast as ``connections`` clients get them answered."""
    answers: list[Answer] = []

    async def client(share: int) -> None:
        connection = Connection(port)
        answers.extend([await connection.get(path) for _ in range(share)])
        connection.close()

    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(client(len(range(number, count, connections))))
    return answers


class PacedLoad:
    """A steady rate from several clients for as long as the ``async with`` block lasts."""

    def __init__(self, port: int, rate: int, *, connections: int = 16, keep_alive: bool = True) -> None:
        self.answers: list[Answer] = []
        self.seconds = 0.0
        self._port, self._rate, self._connections = port, rate, connections
        self._keep_alive = keep_alive
        self._group = asyncio.TaskGroup()
        self._running = True

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._began = time.perf_counter()
        for number in range(self._connections):
            self._group.create_task(self._client(self._began + number / self._rate))
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._running = False
        await self._group.__aexit__(None, None, None)
        self.seconds = time.perf_counter() - self._began

    async def _client(self, due: float) -> None:
        connection = Connection(self._port, keep_alive=self._keep_alive)
        while self._running:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            self.answers.append(await connection.get())
            due += self._connections / self._rate
        connection.close()

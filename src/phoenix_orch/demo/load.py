"""Users of the demo: a steady stream of requests, whatever becomes of them.

    python -m phoenix_orch.demo.load --port 8080 --rate 300

The load is open: a request is sent when it is due, not when the one before it was answered, and its
time counts from when it was due. So a slow or dead service does not make its users polite. Requests
share kept-alive connections, as browsers behind a proxy do.

Twice a second a line of JSON goes to standard output, see `phoenix_orch.demo.users`. The program
ends with its parent (standard input closes), at SIGTERM, or after `--seconds`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import socket
import stat
import sys
import time
from collections import Counter, deque

CONNECTIONS = 256
"""Most connections at one time; a request that finds none counts as failed."""
ANSWER_SECONDS = 5.0
"""Longest wait for an answer."""
_LINE_SECONDS = 0.5
_TICK_SECONDS = 0.005
_CHECKOUT_SHARE = 0.5
_GOLDEN = (math.sqrt(5) - 1) / 2
_LINGER_SECONDS = 6.0

HOST = "shop"


def request_of(number: int, host: str = HOST) -> bytes:
    """Half of the requests are orders, spread so evenly that any regular share of them is half orders
    too: every twentieth request, say, which is what a router at 5 % sends to a canary."""
    if (number * _GOLDEN) % 1.0 < _CHECKOUT_SHARE:
        return f"POST /checkout HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n".encode()
    return f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


class Tally:
    """What users saw."""

    def __init__(self) -> None:
        self.sent = self.answered = self.failed = 0
        self.by_status: Counter[str] = Counter()
        self.by_version: Counter[str] = Counter()
        self.latencies: list[float] = []

    def add(self, status: int, version: str, seconds: float) -> None:
        """One request came to its end; status 0: without an answer."""
        if status:
            self.answered += 1
            self.by_version[version] += 1
            self.latencies.append(seconds)
        if not 200 <= status < 500:
            self.failed += 1
        self.by_status[str(status)] += 1

    def line(self) -> str:
        """Totals since the start, and the latency of what was answered since the line before."""
        seconds = sorted(self.latencies)
        self.latencies.clear()
        return json.dumps(
            {
                "at": time.time(),
                "sent": self.sent,
                "answered": self.answered,
                "failed": self.failed,
                "byStatus": self.by_status,
                "byVersion": self.by_version,
                "p50": quantile(seconds, 0.50),
                "p95": quantile(seconds, 0.95),
                "p99": quantile(seconds, 0.99),
            }
        )


def quantile(ordered: list[float], share: float) -> float | None:
    """The nearest-rank quantile of ascending values."""
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 6) if ordered else None


class Connection(asyncio.Protocol):
    """One connection that carries one request at a time."""

    def __init__(self, users: Users) -> None:
        self._users = users
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.due: float | None = None
        self.sent = 0.0

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request: bytes, due: float) -> None:
        assert self._transport is not None
        self.due, self.sent, self._buffer = due, time.perf_counter(), b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or self.due is None:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        if len(body) < int(fields.get(b"content-length", b"0")):
            return
        version = fields.get(b"x-shop-version", b"").decode("latin-1")
        status = int(head[9:12])
        closes = fields.get(b"connection") == b"close"
        if closes:
            self.abort()
        self._end(status, version, reusable=not closes)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._transport = None
        if self.due is not None:
            self._end(0, "", reusable=False)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _end(self, status: int, version: str, *, reusable: bool) -> None:
        assert self.due is not None
        seconds, self.due = time.perf_counter() - self.due, None
        self._users.ended(self, status, version, seconds, reusable=reusable)


class Users:
    """Send what is due, on a connection that is free or a new one."""

    def __init__(self, port: int, rate: float, *, patience: float = ANSWER_SECONDS, host: str = HOST) -> None:
        """`patience`: seconds after which a request that was not answered is given up on. `host`: the
        name by which users call the service; a router may go by it."""
        self.tally = Tally()
        self._port, self._rate, self._patience, self._host = port, rate, patience, host
        self._free: deque[Connection] = deque()
        self._busy: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float, stop: asyncio.Event) -> None:
        """Send until `stop` or for `seconds`, then wait for the answers that are still to come."""
        began = time.perf_counter()
        number = 0
        while not stop.is_set() and (now := time.perf_counter()) < began + seconds:
            due = began + number / self._rate
            while due <= now:
                self._send(request_of(number, self._host), due)
                number += 1
                due = began + number / self._rate
            self._time_out(now)
            await asyncio.sleep(_TICK_SECONDS)
        await self._linger()

    async def _linger(self) -> None:
        deadline = time.perf_counter() + _LINGER_SECONDS
        while (self._busy or self._opening) and time.perf_counter() < deadline:
            self._time_out(time.perf_counter())
            await asyncio.sleep(_TICK_SECONDS)

    def _send(self, request: bytes, due: float) -> None:
        self.tally.sent += 1
        while self._free:
            connection = self._free.pop()
            if connection.usable:
                self._busy.add(connection)
                connection.send(request, due)
                return
        if len(self._busy) + len(self._opening) >= CONNECTIONS:
            self.tally.add(0, "", 0.0)
            return
        task = asyncio.get_running_loop().create_task(self._open(request, due))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, request: bytes, due: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._patience):
                _, connection = await loop.create_connection(
                    lambda: Connection(self), "127.0.0.1", self._port
                )
        except (OSError, TimeoutError):
            self.tally.add(0, "", 0.0)
            return
        if not connection.usable:
            self.tally.add(0, "", 0.0)
            return
        self._busy.add(connection)
        connection.send(request, due)

    def _time_out(self, now: float) -> None:
        for connection in [c for c in self._busy if now - c.sent > self._patience]:
            connection.abort()  # counted when the connection is lost

    def ended(
        self, connection: Connection, status: int, version: str, seconds: float, *, reusable: bool
    ) -> None:
        self._busy.discard(connection)
        self.tally.add(status, version, seconds)
        if reusable:
            self._free.append(connection)


async def _report(tally: Tally) -> None:
    """Write a line twice a second, until nobody reads them."""
    while True:
        await asyncio.sleep(_LINE_SECONDS)
        print(tally.line(), flush=True)  # noqa: T201 - its output is its result


async def _serve(port: int, rate: float, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _stop_with_parent(loop, stop)
    users = Users(port, rate)
    report = loop.create_task(_report(users.tally))
    report.add_done_callback(lambda _: stop.set())
    await users.run(seconds, stop)
    report.cancel()
    await asyncio.gather(report, return_exceptions=True)
    print(users.tally.line(), flush=True)  # noqa: T201


def _stop_with_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """The parent holds the other end of a pipe as standard input; it closes however the parent ends."""
    if not stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        return
    descriptor = sys.stdin.fileno()

    def look() -> None:
        if not os.read(descriptor, 1024):
            loop.remove_reader(descriptor)
            stop.set()

    loop.add_reader(descriptor, look)


def main() -> None:
    """Run the load as its arguments say."""
    options = argparse.ArgumentParser(description="Requests for the demo of Phoenix.")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--rate", type=float, default=300.0, help="requests per second")
    options.add_argument("--seconds", type=float, default=1800.0, help="end after this time")
    wanted = options.parse_args()
    try:
        asyncio.run(_serve(wanted.port, wanted.rate, wanted.seconds))
    except BrokenPipeError:
        os._exit(1)  # nobody reads; flushing at exit would only complain


if __name__ == "__main__":
    main()

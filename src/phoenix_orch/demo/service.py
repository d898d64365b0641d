"""The demo service "shop": a small HTTP/1.1 server whose only secret is the fault it was built with.

    python -m phoenix_orch.demo.service --port 9000 --version 1

`GET /` and `POST /checkout` are business, `/healthz` and `/metrics` are for whoever looks after it.
SHOP_FAULT makes one release worse than another while everything else stays the same:

    errors:0.2    this share of business requests is answered with 500
    slow:0.15     this share takes 300 to 500 ms; the others are as quick as ever
    crash:8       the process ends with status 1 when it gets its eighth business request
    hang:1        this share gets no answer at all, for as long as its client waits
    leak:8        every business request keeps 8 MiB for ever
    unready:inf   /healthz answers 503 for so many seconds after the start; business is served all the same

It is written on a bare asyncio protocol because it has to be ready soon and cost little: the demo
shares a laptop with the router, the orchestrator and the user's browser.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import re
import signal
import socket
import sys
import time
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5)
DRAIN_SECONDS = 5.0
"""Longest wait for requests in flight after SIGTERM."""
_LARGEST_REQUEST = 64 * 1024
_TYPICAL_SECONDS, _SPREAD = 0.006, 0.5
_SLOW_SECONDS = (0.3, 0.5)
_MEBIBYTE = b"x" * 2**20
_REASONS = {
    200: b"OK",
    404: b"Not Found",
    413: b"Content Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}
_FAULTS = "errors:SHARE, slow:SHARE, crash:REQUESTS, hang:SHARE, leak:MEBIBYTES or unready:SECONDS"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with this build: the kind is a word of _FAULTS, or empty for nothing."""

    kind: str = ""
    amount: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read `kind:amount`; empty is no fault. Raises ValueError."""
        if not text:
            return cls()
        kind, _, amount = text.partition(":")
        if kind not in re.findall(r"[a-z]+(?=:)", _FAULTS):
            raise ValueError(f"{text!r} is no fault; write {_FAULTS}")
        return cls(kind, float(amount))


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    keep_alive: bool


class Shop:
    """What the service does for a request, and what it counts."""

    def __init__(self, version: str, fault: Fault, chance: random.Random) -> None:
        self.version = version.encode()
        self._fault, self._chance = fault, chance
        self._served = 0
        self._kept: list[bytes] = []
        self._ready_at = time.monotonic() + (fault.amount if fault.kind == "unready" else 0.0)
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "requests", "Business requests by path and status.", ["path", "code"], registry=self._registry
        )
        self._duration = Histogram(
            "request_duration_seconds",
            "Time from request to answer.",
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._orders = Counter("orders", "Orders placed.", registry=self._registry)

    def answer(self, request: Request) -> tuple[int, bytes, float]:
        """Status, body, and the seconds this request takes: infinity when it is never answered."""
        if request.path == "/healthz":
            ready = time.monotonic() >= self._ready_at
            return (200, b"ok\n", 0.0) if ready else (503, b"not ready\n", 0.0)
        if request.path == "/metrics":
            return 200, generate_latest(self._registry), 0.0
        if (request.method, request.path) not in (("GET", "/"), ("POST", "/checkout")):
            return 404, b"not found\n", 0.0
        self._crash_if_due()
        if self._fault.kind == "leak":
            self._kept.append(_MEBIBYTE * int(self._fault.amount))
        seconds = self._seconds()
        failed = self._fault.kind == "errors" and self._chance.random() < self._fault.amount
        if failed:
            return 500, b"cannot reach the price list\n", seconds
        return 200, b"order placed\n" if request.path == "/checkout" else b"welcome\n", seconds

    def count(self, request: Request, status: int, seconds: float) -> None:
        """Count a business request that was answered."""
        if request.path not in ("/", "/checkout"):
            return
        self._requests.labels(request.path, str(status)).inc()
        self._duration.observe(seconds)
        if status == 200 and request.path == "/checkout":
            self._orders.inc()

    def _seconds(self) -> float:
        if self._fault.kind == "hang" and self._chance.random() < self._fault.amount:
            return math.inf
        if self._fault.kind == "slow" and self._chance.random() < self._fault.amount:
            return self._chance.uniform(*_SLOW_SECONDS)
        return min(0.05, self._chance.lognormvariate(0, _SPREAD) * _TYPICAL_SECONDS)

    def _crash_if_due(self) -> None:
        self._served += 1
        if self._fault.kind == "crash" and self._served >= self._fault.amount:
            print("panic: price list corrupt, cannot go on", file=sys.stderr, flush=True)  # noqa: T201
            os._exit(1)  # as a crash does: no clean-up, requests in flight are lost


class Server:
    """Open connections, and how they come to an end."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.draining = False
        self.connections: set[Connection] = set()

    async def run(self, host: str, port: int) -> None:
        """Serve until SIGTERM or SIGINT, then finish what is in flight."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        server = await loop.create_server(lambda: Connection(self), host, port, backlog=512)
        await stop.wait()
        server.close()
        await self._drain(loop)

    async def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        self.draining = True
        for connection in list(self.connections):
            connection.close_if_idle()
        deadline = loop.time() + DRAIN_SECONDS
        while self.connections and loop.time() < deadline:  # noqa: ASYNC110 - at most once in a lifetime
            await asyncio.sleep(0.01)


class Connection(asyncio.Protocol):
    """One keep-alive connection; requests that arrive together are answered one after another."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = b""
        self._busy = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._server.connections.discard(self)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._go_on()

    def close_if_idle(self) -> None:
        if not self._busy and not self._buffer and self._transport is not None:
            self._transport.close()

    def _go_on(self) -> None:
        while not self._busy and self._take():
            pass

    def _take(self) -> bool:
        """Begin the next request of the buffer. False when it does not hold a whole one."""
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        length = _content_length(head) if found else 0
        if max(length, len(head)) > _LARGEST_REQUEST:
            self._reply(413, b"too large\n", keep_alive=False)
            return False
        if not found or len(rest) < length:
            return False
        self._buffer = rest[length:]
        request = _parse(head)
        began = time.perf_counter()
        status, body, seconds = self._server.shop.answer(request)
        if seconds > 0:
            self._busy = True
            if seconds < math.inf:
                loop = asyncio.get_running_loop()
                loop.call_later(seconds, self._finish, request, status, body, began)
        else:
            self._reply(status, body, keep_alive=request.keep_alive)
        return True

    def _finish(self, request: Request, status: int, body: bytes, began: float) -> None:
        self._busy = False
        self._server.shop.count(request, status, time.perf_counter() - began)
        self._reply(status, body, keep_alive=request.keep_alive)
        self._go_on()

    def _reply(self, status: int, body: bytes, *, keep_alive: bool) -> None:
        if self._transport is None:
            return
        stay = keep_alive and not self._server.draining
        self._transport.write(
            b"HTTP/1.1 %d %s\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n"
            b"X-Shop-Version: %s\r\nConnection: %s\r\n\r\n%s"
            % (
                status,
                _REASONS[status],
                len(body),
                self._server.shop.version,
                b"keep-alive" if stay else b"close",
                body,
            )
        )
        if not stay:
            self._buffer = b""
            self._transport.close()


def _parse(head: bytes) -> Request:
    line, _, fields = head.partition(b"\r\n")
    words = line.decode("latin-1").split(" ")
    method, target = (words[0], words[1]) if len(words) == 3 else ("", "")
    closes = b"\r\nconnection: close" in b"\r\n" + fields.lower()
    return Request(method, target.partition("?")[0], keep_alive=not closes)


def _content_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    text = rest.partition(b"\r\n")[0].strip()
    return int(text) if found and text.isdigit() else 0


def main() -> None:
    """Run the service; its arguments and SHOP_FAULT say which build it is."""
    options = argparse.ArgumentParser(description="The demo service of Phoenix.")
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--version", default="1")
    wanted = options.parse_args()
    try:
        fault = Fault.parse(os.environ.get("SHOP_FAULT", ""))
    except ValueError as error:
        options.error(f"SHOP_FAULT: {error}")
    shop = Shop(wanted.version, fault, random.Random())  # noqa: S311 - chance, not secrets
    asyncio.run(Server(shop).run(wanted.host, wanted.port))


if __name__ == "__main__":
    main()

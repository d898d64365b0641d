"""A server of Prometheus' query API whose counters grow as a test says: by the weight that is in force."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

PACE = 0.2
"""Seconds between two scrapes at the least."""
_MATCHER = re.compile(r'(\w+)(=~|=|!=|!~)"((?:[^"\\]|\\.)*)"')


@dataclass
class Variant:
    """What is counted of one variant, by status."""

    labels: Mapping[str, str]
    errors: float = 0.0
    """Share of its requests that fail."""
    silent: bool = False
    """Its requests are counted no more: nobody sends any."""
    counts: dict[str, float] = field(default_factory=lambda: {"200": 0.0, "500": 0.0})

    def grow(self, requests: float) -> None:
        if not self.silent:
            self.counts["200"] += requests * (1 - self.errors)
            self.counts["500"] += requests * self.errors


@dataclass
class ScriptedPrometheus:
    """`share`: what the data plane gives to the canary, in per cent."""

    requests: str
    """Name of the counter."""
    status: str
    """Its label with the status of an answer."""
    stable: Variant
    canary: Variant
    share: Callable[[], int]
    rate: float = 2000.0
    """Requests per second to both variants together."""
    down: bool = False
    """Every question is answered with 503."""
    empty: bool = False
    """It answers, and knows no series."""
    url: str = ""
    asked: int = 0
    _scrapes: list[tuple[float, dict[tuple[int, str], float]]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, query: str) -> tuple[int, Any]:
        with self._lock:
            self.asked += 1
            self._scrape(time.time())
            if self.down:
                return 503, {"status": "error", "errorType": "unavailable", "error": "made up by a test"}
            found = [] if self.empty else list(self._series(query))
        return 200, {"status": "success", "data": {"resultType": "matrix", "result": found}}

    def _scrape(self, now: float) -> None:
        before = self._scrapes[-1][0] if self._scrapes else now - PACE
        if now - before < PACE:
            return
        to_canary = self.share() / 100
        self.stable.grow(self.rate * (now - before) * (1 - to_canary))
        self.canary.grow(self.rate * (now - before) * to_canary)
        counts = {
            (place, status): float(int(count))
            for place, variant in enumerate((self.stable, self.canary))
            for status, count in variant.counts.items()
        }
        self._scrapes.append((now, counts))
        del self._scrapes[:-100]

    def _series(self, query: str) -> Iterator[dict[str, Any]]:
        wanted = [(name, how, re.sub(r"\\(.)", r"\1", text)) for name, how, text in _MATCHER.findall(query)]
        for place, variant in enumerate((self.stable, self.canary)):
            for status in variant.counts:
                labels = {"__name__": self.requests, "job": "router", "instance": "router:1"}
                labels |= {**variant.labels, self.status: status}
                if all(_matches(labels.get(name, ""), how, text) for name, how, text in wanted):
                    values = [[at, f"{counts[place, status]:g}"] for at, counts in self._scrapes]
                    yield {"metric": labels, "values": values}


def _matches(value: str, how: str, text: str) -> bool:
    fits = re.fullmatch(text, value) is not None if how.endswith("~") else value == text
    return fits != how.startswith("!")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Whoever asked is gone."""


@contextlib.contextmanager
def serving(prometheus: ScriptedPrometheus) -> Iterator[ScriptedPrometheus]:
    """On loopback, while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
            code, answer = prometheus.answer(form["query"][0])
            body = json.dumps(answer).encode()
            self.send_response_only(code)
            self.send_header("Date", formatdate(usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    prometheus.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield prometheus
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

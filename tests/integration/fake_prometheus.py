"""The range query of Prometheus' HTTP API over real HTTP, answering from given counters.

Faithful in what the reader relies on: form or query parameters, a grid from `start` by `step` up to
`end`, values as strings, staleness after five minutes, 11,000 points at most, errors as documents
with `errorType` and a status of 400, and bearer tokens where one is wanted.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LOOKBACK = 300.0
Sample = tuple[float, float]


class FakePrometheus:
    """`series`: by query, the labels and the samples (moment, value) of each series found."""

    def __init__(self, series: Mapping[str, Sequence[tuple[Mapping[str, str], Sequence[Sample]]]]) -> None:
        self.series = series
        self.token = ""
        self.asked: list[dict[str, str]] = []
        self.url = ""

    def answer(self, parameters: dict[str, str], authorization: str) -> tuple[int, Any]:
        self.asked.append(parameters)
        if self.token and authorization != f"Bearer {self.token}":
            return 401, {"status": "error", "errorType": "unauthorized", "error": "no token"}
        query = parameters["query"]
        start, end, step = (float(parameters[name]) for name in ("start", "end", "step"))
        if (end - start) / step > 11_000:
            message = "exceeded maximum resolution of 11,000 points per timeseries."
            return 400, {"status": "error", "errorType": "bad_data", "error": message}
        if query not in self.series:
            message = f'invalid parameter "query": 1:1: parse error: unexpected {query!r}'
            return 400, {"status": "error", "errorType": "bad_data", "error": message}
        result = []
        for labels, samples in self.series[query]:
            values = []
            for index in range(int((end - start) / step) + 1):
                moment = start + index * step
                known = [value for at, value in samples if moment - LOOKBACK < at <= moment]
                if known:
                    values.append([moment, f"{known[-1]:g}"])
            if values:
                result.append({"metric": dict(labels), "values": values})
        return 200, {"status": "success", "data": {"resultType": "matrix", "result": result}}


@contextlib.contextmanager
def serving(fake: FakePrometheus) -> Iterator[FakePrometheus]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            self._reply(urlsplit(self.path).path, body)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self._reply(parts.path, parts.query)

        def _reply(self, path: str, text: str) -> None:
            parameters = {name: values[0] for name, values in parse_qs(text).items()}
            if path == "/api/v1/query_range":
                status, answer = fake.answer(parameters, self.headers.get("Authorization", ""))
                body = json.dumps(answer).encode()
            else:
                status, body = 404, b"404 page not found\n"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

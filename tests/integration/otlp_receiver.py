"""Receives traces as a collector does: OTLP over HTTP, as protobuf."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True, slots=True)
class Received:
    """One span."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent: str
    """Span id; empty: none."""
    attributes: dict[str, str | int]
    failed: bool
    raw: str
    """All of it, to look for what must not be there."""


class Receiver:
    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Received] = []

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for group in request.resource_spans:
            about = {one.key: one.value.string_value for one in group.resource.attributes}
            for span in (span for scope in group.scope_spans for span in scope.spans):
                self.spans.append(
                    Received(
                        service=about["service.name"],
                        name=span.name,
                        trace_id=span.trace_id.hex(),
                        span_id=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        attributes={one.key: _value(one.value) for one in span.attributes},
                        failed=span.status.code == span.status.STATUS_CODE_ERROR,
                        raw=str(span),
                    )
                )


def _value(value: object) -> str | int:
    return getattr(value, value.WhichOneof("value"))  # type: ignore[attr-defined,no-any-return]


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """One on a port of its own."""
    receiver = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            receiver.take(self.rfile.read(int(self.headers["Content-Length"])))
            body = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

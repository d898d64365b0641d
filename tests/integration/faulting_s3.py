"""A proxy before a real S3 server that answers some requests as S3 does when something is wrong."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.integration.s3_server import S3Server

Chosen = Callable[[str, str], bool]
"""Whether a method and a path are answered with the fault."""


@dataclass(frozen=True)
class Answer:
    """As AWS documents it. Answers to HEAD have no body."""

    status: int
    code: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{self.code}</Code>'
            "<Message>as it says</Message><RequestId>4442587FB7D0A2F9</RequestId></Error>"
        ).encode()


SKEWED = Answer(403, "RequestTimeTooSkewed")
REDIRECTED = Answer(301, "PermanentRedirect", {"x-amz-bucket-region": "eu-central-1"})
MALFORMED = Answer(400, "AuthorizationHeaderMalformed")
DENIED = Answer(403, "AccessDenied")
NO_BUCKET = Answer(404, "NoSuchBucket")
EXPIRED = Answer(400, "ExpiredToken")
SLOW_DOWN = Answer(503, "SlowDown")


class Faulting:
    """`endpoint`: where it answers. It passes on everything but what it is told to fault."""

    def __init__(self, s3: S3Server, *, secure: bool = False) -> None:
        self.answered = 0
        """Requests that got the fault so far."""
        self._answer: Answer | None = None
        self._left = 0
        self._chosen: Chosen = lambda _method, _path: True
        self._flips: Chosen = lambda _method, _path: False
        self._lock = threading.Lock()
        target = urlsplit(s3.endpoint)
        trust = ssl.create_default_context(cafile=str(s3.ca_file))
        faulting = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length) if length else b""
                if body and faulting._flips(self.command, self.path):
                    faulting.flipped.append(f"{self.command} {self.path}")
                    middle = len(body) // 2
                    body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
                answer = faulting._due(self.command, self.path)
                if answer is not None:
                    self._send(answer.status, answer.headers.items(), answer.body)
                    return
                host, port = target.hostname or "", target.port
                connection = http.client.HTTPSConnection(host, port, context=trust, timeout=30)
                with contextlib.closing(connection):
                    connection.request(self.command, self.path, body, dict(self.headers.items()))
                    found = connection.getresponse()
                    self._send(found.status, found.getheaders(), found.read())

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815 - the library's names

            def _send(self, status: int, headers: object, body: bytes) -> None:
                self.send_response_only(status)
                length = str(len(body))
                for name, value in headers:  # type: ignore[attr-defined]
                    if name.lower() == "content-length" and self.command == "HEAD":
                        length = value
                    elif name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                if not any(name.lower() == "date" for name, _ in headers):  # type: ignore[attr-defined]
                    self.send_header("Date", self.date_time_string())
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Said nowhere."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.flipped: list[str] = []
        """Requests whose body was changed."""
        if secure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(s3.folder / "tls.crt", s3.folder / "tls.key")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "https" if secure else "http"
        self.endpoint = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def fault(
        self, answer: Answer | None, *, times: int = 10**6, only: Chosen = lambda _method, _path: True
    ) -> None:
        """Answer the next so many requests, of those that `only` chooses. None: none any more."""
        with self._lock:
            self._answer, self._left, self._chosen, self.answered = answer, times, only, 0

    def flip(self, only: Chosen) -> None:
        """Change one bit of each body that is sent to the storage by requests that `only` chooses."""
        self.flipped.clear()
        self._flips = only

    def _due(self, method: str, path: str) -> Answer | None:
        with self._lock:
            if self._answer is None or self._left == 0 or not self._chosen(method, path):
                return None
            self._left -= 1
            self.answered += 1
            return self._answer

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def faulting(s3: S3Server, *, secure: bool = False) -> Iterator[Faulting]:
    """`secure`: it ends TLS, as a proxy does that somebody has put in between."""
    proxy = Faulting(s3, secure=secure)
    try:
        yield proxy
    finally:
        proxy.close()

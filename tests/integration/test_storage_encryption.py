"""What phoenix.yaml says of encryption by the storage goes with every object that is written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from phoenix_orch.recovery.object_store import PART, BucketStore
from phoenix_orch.recovery.spec import S3Storage
from phoenix_orch.recovery.storage import located

_BEGUN = "<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>"
_ENDED = "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
SSE = "x-amz-server-side-encryption"


class _Handler(BaseHTTPRequestHandler):
    """As much of S3 as two kinds of writes need."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_PUT(self) -> None:
        self._answer("")

    def do_POST(self) -> None:
        self._answer(_BEGUN if "uploads" in self.path else _ENDED)

    def _answer(self, body: str) -> None:
        self.rfile.read(int(self.headers["content-length"] or 0))
        self.server.seen.append((f"{self.command} {self.path}", self.headers))
        self.send_response(200)
        self.send_header("ETag", '"e"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, Message]] = []


@contextmanager
def serving() -> Iterator[_Server]:
    server = _Server()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("said", "headers"),
    [
        ({}, {}),
        ({"sse": "AES256"}, {SSE: "AES256"}),
        ({"sse": "aws:kms"}, {SSE: "aws:kms", f"{SSE}-bucket-key-enabled": "true"}),
        (
            {"sse": "aws:kms", "kmsKey": "alias/backups"},
            {
                SSE: "aws:kms",
                f"{SSE}-bucket-key-enabled": "true",
                f"{SSE}-aws-kms-key-id": "alias/backups",
            },
        ),
    ],
    ids=["left out", "AES256", "KMS", "a key of KMS"],
)
def test_each_write_asks_for_it(said: dict[str, str], headers: dict[str, str]) -> None:
    with serving() as server:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        spec = S3Storage.model_validate({"bucket": "backups", "endpoint": endpoint, **said})
        keys = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret"}
        store = BucketStore(located(spec, keys))
        store.create("small", b"content")
        store.replace("small", b"content", "e")
        with store.writer("large") as sink:
            sink.write(bytes(PART + 1))
    begun = [seen for what, seen in server.seen if "small" in what or what.endswith("?uploads=")]
    begun += [seen for what, seen in server.seen if what.endswith("?uploads")]
    assert len(begun) == 3, [what for what, _ in server.seen]
    for seen in begun:
        assert {
            name.lower(): value for name, value in seen.items() if name.lower().startswith(SSE)
        } == headers

"""A real S3 server with TLS, on ports of its own: started, awaited, ended."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from tests.cluster.certificates import Authority, write_private

from phoenix_orch.recovery.s3_location import S3Location

ACCESS, SECRET = "phoenix-writer", "a secret key that must never be seen"
READER, READER_SECRET = "phoenix-reader", "another secret key never to be seen"
_WITHIN = 60.0
_names = itertools.count(1)


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    ca_file: Path
    folder: Path = Path()
    """Where its certificate is, `tls.crt`."""

    def location(self, bucket: str, **more: Any) -> S3Location:
        given = S3Location(
            bucket, endpoint=self.endpoint, ca_file=self.ca_file, access_key=ACCESS, secret_key=SECRET
        )
        return replace(given, **more)

    def new_bucket(self, *, lock: bool = False) -> str:
        name = f"backups-{next(_names)}"
        more = {"ObjectLockEnabledForBucket": True} if lock else {}
        self.boto().create_bucket(Bucket=name, **more)
        return name

    def boto(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
            verify=str(self.ca_file),
            config=Config(s3={"addressing_style": "path"}),
        )


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """`folder`: empty, on a real disk; it is the server's."""
    (folder / "ca").mkdir()
    authority = Authority(folder / "ca")
    pair = authority.server("127.0.0.1", "localhost")
    grants = {
        "identities": [
            _identity("writer", ACCESS, SECRET, ("Admin", "Read", "List", "Write", "Tagging")),
            _identity("reader", READER, READER_SECRET, ("Read", "List")),
        ]
    }
    (folder / "s3.json").write_text(json.dumps(grants))
    (folder / "data").mkdir()
    certificate = write_private(folder / "tls.crt", pair.certificate)
    key = write_private(folder / "tls.key", pair.key)
    ports = _free_ports(9)
    command = [
        str(Path(sys.executable).parent / "weed"),
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={folder / 'data'}",
        "-master.telemetry=false",
        f"-master.port={ports[0]}",
        f"-master.port.grpc={ports[1]}",
        "-master.volumeSizeLimitMB=128",
        f"-volume.port={ports[2]}",
        f"-volume.port.grpc={ports[3]}",
        "-volume.max=1000",
        "-filer",
        f"-filer.port={ports[4]}",
        f"-filer.port.grpc={ports[5]}",
        f"-filer.localSocket={folder / 'f.sock'}",
        "-s3",
        f"-s3.port={ports[6]}",
        f"-s3.port.grpc={ports[7]}",
        f"-s3.port.https={ports[8]}",
        f"-s3.cert.file={certificate}",
        f"-s3.key.file={key}",
        f"-s3.config={folder / 's3.json'}",
        f"-s3.localSocket={folder / 's.sock'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
    ]
    server = S3Server(f"https://127.0.0.1:{ports[8]}", authority.certificate_file, folder)
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    try:
        _await(server, process, log)
        yield server
    finally:
        process.kill()  # it takes half a minute to end by itself, and its data is thrown away
        process.wait()


def _identity(name: str, access: str, secret: str, actions: tuple[str, ...]) -> dict[str, Any]:
    keys = [{"accessKey": access, "secretKey": secret}]
    return {"name": name, "credentials": keys, "actions": list(actions)}


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _await(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it stores an object: it answers requests a while before that."""
    trust = ssl.create_default_context(cafile=str(server.ca_file))
    until = time.monotonic() + _WITHIN
    while True:
        try:
            try:
                urllib.request.urlopen(server.endpoint, context=trust, timeout=5)
            except urllib.error.HTTPError as answer:
                answer.close()
            client = server.boto()
            with contextlib.suppress(client.exceptions.BucketAlreadyExists):
                client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"ready")
        except Exception as error:
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"no S3 server: {error}\n{log.read_text()[-3000:]}") from error
            time.sleep(0.1)
        else:
            return

"""A folder and a real S3 server keep objects alike, and say what is wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qsl, quote, urlsplit
from xml.sax.saxutils import escape

import pytest
from tests.integration.s3_server import READER, READER_SECRET, SECRET, S3Server, s3_server
from tests.recovery_outcomes import seen

from phoenix_orch.kernel.errors import PhoenixError, Retryable, Terminal
from phoenix_orch.recovery.bucket_admin import BucketAdmin
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.object_store import BucketStore
from phoenix_orch.recovery.objects import ObjectStore, Unfinished
from phoenix_orch.recovery.s3_location import S3Location
from phoenix_orch.testing.objects_contract import CONTRACT, LARGE, whole, written

LONE = timedelta(seconds=1)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", ["folder", "bucket", "prefix"])
def test_contract(
    check: Callable[[ObjectStore], None], kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "folder":
        check(FolderStore(tmp_path / "backups"))
        return
    s3: S3Server = request.getfixturevalue("s3")
    bucket = s3.new_bucket()
    check(BucketStore(s3.location(bucket, prefix="team/one/" if kind == "prefix" else "")))
    assert list(BucketAdmin(s3.location(bucket)).unfinished()) == []


def test_the_environment_changes_nothing(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket = s3.new_bucket()
    (tmp_path / "none.pem").write_text("no certificate")
    for name, value in {
        "AWS_CA_BUNDLE": str(tmp_path / "none.pem"),
        "REQUESTS_CA_BUNDLE": str(tmp_path / "none.pem"),
        "AWS_ENDPOINT_URL": "http://192.0.2.1",
        "AWS_ENDPOINT_URL_S3": "http://192.0.2.1",
        "AWS_ACCESS_KEY_ID": "other",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "stale",
        "AWS_REGION": "mars-north-1",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_PROFILE": "missing",
    }.items():
        monkeypatch.setenv(name, value)
    store = BucketStore(s3.location(bucket))
    written(store, "large", LARGE)
    assert whole(store, "large") == LARGE
    assert store.now()
    assert list(BucketAdmin(s3.location(bucket)).unfinished()) == []


def refusals(store: BucketStore) -> list[PhoenixError]:
    acts: list[Callable[[], object]] = [
        lambda: store.create("a/key", b"x"),
        lambda: store.get("a/key"),
        lambda: written(store, "a/key", LARGE),
        lambda: list(store.list("a/")),
    ]
    raised = []
    for act in acts:
        with pytest.raises(PhoenixError) as refusal:
            act()
        assert SECRET not in str(refusal.value)
        assert refusal.value.remedy
        raised.append(refusal.value)
    return raised


def test_it_says_what_is_wrong(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.new_bucket()
    missing = refusals(BucketStore(s3.location("not-there"), patience=LONE))
    assert all("not-there" in str(error) for error in missing)
    assert "does not exist" in str(missing[0])
    assert type(missing[0]) is Terminal
    wrong = refusals(BucketStore(s3.location(bucket, secret_key="wrong"), patience=LONE))
    assert all(error.message.endswith("says the secret key is wrong") for error in wrong)
    assert all(type(error) is Terminal for error in wrong)
    unknown = refusals(BucketStore(s3.location(bucket, access_key="nobody"), patience=LONE))
    assert all(type(error) is Terminal for error in unknown)
    untrusted = refusals(BucketStore(s3.location(bucket, ca_file=None), patience=LONE))
    assert all("is not trusted" in error.message and "caFile" in error.remedy for error in untrusted)
    with pytest.raises(Terminal, match="not trusted"):
        BucketStore(s3.location(bucket, ca_file=None)).now()
    with pytest.raises(Terminal, match="caFile"):
        BucketStore(s3.location(bucket, ca_file=tmp_path / "none"))
    reader = BucketStore(s3.location(bucket, access_key=READER, secret_key=READER_SECRET), patience=LONE)
    assert list(reader.list("")) == []
    with pytest.raises(Terminal, match="refuses access for a/key"):
        reader.create("a/key", b"x")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"https://127.0.0.1:{taken.getsockname()[1]}"
        away = refusals(BucketStore(s3.location(bucket, endpoint=nobody), patience=LONE))
    assert all(isinstance(error, Retryable) for error in away)


def test_uploads_of_the_killed_are_found_and_given_up(s3: S3Server) -> None:
    bucket = s3.new_bucket()
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from phoenix_orch.recovery.object_store import BucketStore\n"
        "from phoenix_orch.recovery.s3_location import S3Location\n"
        "at = S3Location(sys.argv[1], endpoint=sys.argv[2], ca_file=Path(sys.argv[3]),\n"
        "                access_key=sys.argv[4], secret_key=sys.stdin.readline().strip(), prefix='team/')\n"
        "with BucketStore(at).writer('a/b') as sink:\n"
        "    for _ in range(40): sink.write(bytes(1 << 20))\n"
        "    print('half', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    location = s3.location(bucket, prefix="team/")
    process = subprocess.Popen(
        [sys.executable, "-c", script, bucket, s3.endpoint, str(s3.ca_file), location.access_key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    with process, process.stdin, process.stdout:
        process.stdin.write(SECRET + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    admin = BucketAdmin(location)
    left = list(admin.unfinished())
    assert [one.key for one in left] == ["a/b"]
    assert abs(left[0].begun - datetime.now(UTC)) < timedelta(minutes=5)
    assert list(BucketStore(location).list("")) == []
    admin.abort(left[0])
    admin.abort(left[0])
    assert list(admin.unfinished()) == []


def test_a_lock_keeps_an_object(s3: S3Server) -> None:
    plain, locked = s3.new_bucket(), s3.new_bucket(lock=True)
    assert not BucketAdmin(s3.location(plain)).state().locked
    admin = BucketAdmin(s3.location(locked))
    state = admin.state()
    assert state.versioned
    assert state.locked
    assert state.default_lock is None
    store = BucketStore(s3.location(locked))
    store.create("kept", b"x")
    admin.retain_until("kept", datetime.now(UTC) + timedelta(days=1), forever=True)
    client = s3.boto()
    version = client.list_object_versions(Bucket=locked)["Versions"][0]["VersionId"]
    with pytest.raises(client.exceptions.ClientError):
        client.delete_object(Bucket=locked, Key="kept", VersionId=version)


def test_a_folder_ends_a_killed_writer_without_an_object(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from phoenix_orch.recovery.folder_store import FolderStore\n"
        "with FolderStore(Path(sys.argv[1])).writer('a/b') as sink:\n"
        "    sink.write(bytes(100)); print('half', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == b"half\n"
        process.kill()
    store = FolderStore(tmp_path)
    assert list(store.list("")) == []
    left = list(store.unfinished())
    assert [one.key for one in left] == ["a/b"]
    store.abort(left[0])
    store.abort(left[0])
    assert list(store.unfinished()) == []
    with pytest.raises(PhoenixError):
        store.abort(Unfinished("", "../a", datetime.now(UTC)))


def test_a_folder_is_for_its_owner_alone_and_keeps_no_empty_ones(tmp_path: Path) -> None:
    root = tmp_path / "backups"
    store = FolderStore(root)
    store.create("a/b/c", b"x")
    assert {oct(path.stat().st_mode & 0o777) for path in [root, root / "a", root / "a/b"]} == {"0o700"}
    assert oct((root / "a/b/c").stat().st_mode & 0o777) == "0o600"
    store.delete("a/b/c")
    assert not (root / "a").exists()
    assert root.exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    store = FolderStore(tmp_path)
    store.create("lease", b"old")
    etag = store.stat("lease").etag

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    for act in (
        lambda: store.create("a", b"x"),
        lambda: written(store, "b", LARGE),
        lambda: store.replace("lease", b"new", etag),
    ):
        with pytest.raises(PhoenixError) as refusal:
            act()
        assert refusal.value.remedy
        assert isinstance(refusal.value, Terminal if code == errno.EROFS else Retryable)
    monkeypatch.undo()
    assert [stat.key for stat in store.list("")] == ["lease"]
    assert store.get("lease")[0] == b"old"
    assert list(store.unfinished()) == []


class Cutting:
    """Passes bytes on to a server, and cuts the line after each so many that come back."""

    def __init__(self, port: int, every: int) -> None:
        self._target, self._every = port, every
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._pass, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, self._every), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, left: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if left is not None and len(data) > left:
                    self.cuts += 1
                    break
                left = None if left is None else left - len(data)
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def test_a_read_goes_on_where_the_line_was_cut(s3: S3Server) -> None:
    bucket = s3.new_bucket()
    written(BucketStore(s3.location(bucket)), "large", LARGE)
    cutting = Cutting(int(s3.endpoint.rpartition(":")[2]), every=3_000_000)
    try:
        store = BucketStore(s3.location(bucket, endpoint=f"https://127.0.0.1:{cutting.port}"))
        assert whole(store, "large") == LARGE
        assert cutting.cuts >= 6
        assert whole(store, "large", 5_000_001) == LARGE[5_000_001:]
        seen(
            "Reading a backup",
            "the line to S3 is cut",
            "every 3 MB",
            leaves="the bytes that were written",
            then="it goes on at its byte",
        )
    finally:
        cutting.close()


def test_a_read_of_an_object_that_is_replaced_meanwhile_mixes_nothing(s3: S3Server) -> None:
    bucket = s3.new_bucket()
    direct = BucketStore(s3.location(bucket))
    written(direct, "large", LARGE)
    cutting = Cutting(int(s3.endpoint.rpartition(":")[2]), every=3_000_000)
    try:
        store = BucketStore(s3.location(bucket, endpoint=f"https://127.0.0.1:{cutting.port}"))
        with store.reader("large") as source:
            source.read(10)
            written(direct, "large", LARGE[::-1])
            with pytest.raises(PhoenixError, match="changed meanwhile"):
                source.read()
        seen(
            "Reading a backup",
            "the object is replaced",
            "after 10 bytes",
            leaves="nothing of the other one",
            then="it ends with a conflict",
        )
    finally:
        cutting.close()


def test_a_writer_of_a_long_key_is_found_by_its_beginning(tmp_path: Path) -> None:
    store, key = FolderStore(tmp_path), "/".join(["segment-of-a-key"] * 40)
    with store.writer(key) as sink:
        sink.write(b"x")
        left = list(store.unfinished())
        assert key.startswith(left[0].key)
        assert len(left[0].key) == 200
    assert list(store.unfinished()) == []
    assert store.get(key)[0] == b"x"


def test_a_folder_lists_by_key(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    keys = ["a", "b-c/x", "b.d/x", "b/x", "b/y/z", "b0", "bb/1"]
    for key in keys[::-1]:
        store.create(key, b"")
    assert [stat.key for stat in store.list("")] == keys


class _Listing(BaseHTTPRequestHandler):
    """Lists a bucket as AWS and MinIO do, which take any name; the S3 server of these tests mends them."""

    keys: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        asked = dict(parse_qsl(urlsplit(self.path).query))
        after = asked.get("start-after", "")
        coded = asked.get("encoding-type") == "url"
        found = "".join(
            f"<Contents><Key>{quote(key) if coded else escape(key)}</Key><Size>1</Size>"
            "<ETag>&quot;e&quot;</ETag><LastModified>2026-11-28T10:00:00.000Z</LastModified></Contents>"
            for key in sorted(self.keys)
            if key > after and key.startswith(asked.get("prefix", ""))
        )
        coding = "<EncodingType>url</EncodingType>" if coded else ""
        body = (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>false</IsTruncated>{coding}{found}</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize(
    "name", ["team/v1//x", "team/v1/../x", "team/v1/a//b", "team/v1/a\tb", "team/v1/a b"]
)
def test_one_name_that_is_no_key_hides_no_others(name: str) -> None:
    _Listing.keys = ["team/v1/a", "team/v1/b/c", name, "team/v1/z", "team/w"]
    with ThreadingHTTPServer(("127.0.0.1", 0), _Listing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        location = S3Location(
            "b",
            endpoint=f"http://127.0.0.1:{server.server_port}",
            prefix="team/",
            access_key="a",
            secret_key="b",
        )
        found = list(BucketStore(location, patience=LONE).list("v1/"))
        server.shutdown()
    assert [stat.key for stat in found] == ["v1/a", "v1/b/c", "v1/z"]
    assert {(stat.size, stat.etag) for stat in found} == {(1, '"e"')}

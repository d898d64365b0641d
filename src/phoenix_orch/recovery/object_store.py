"""Objects in a bucket of S3, or of anything that speaks like it.

What the environment says of AWS does not matter, but for proxies: where, as whom and whom to trust is in the
location. Requests are tried again for a minute; a read that breaks off goes on at its byte.

A byte that changes on its way is found: small objects go with their SHA-256, which the storage compares, and
whoever writes a stream reads back what was stored.
"""

from __future__ import annotations

import contextlib
import email.utils
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, InvalidPathError, PreconditionError
from obstore.store import S3Store

from phoenix_orch.kernel.errors import Conflict, Invalid, NotFound, PhoenixError, Retryable, Terminal
from phoenix_orch.recovery import s3_errors
from phoenix_orch.recovery.objects import LARGEST_SMALL, Reader, Stat, Writer, checked, is_key, too_large
from phoenix_orch.recovery.s3_location import S3Location

PART = 8 * 1024 * 1024
"""Bytes of a part of an upload, at least."""
MOST_PARTS = 10_000
LARGEST_PART = 5 * 1024**3
_UPLOADS = 3
"""Parts on their way at once: with the one that is filled, 32 MiB."""
_CHUNK = 1024 * 1024
_PIECE = 256 * 1024
"""Bytes gathered of a stream at once: more of them are copied more often."""
_PAGE = 1000
RESUMPTIONS = 8
"""Times in a row that a read may break off without a byte."""


def part_size(estimate: int) -> int:
    """Bytes of each part of an upload: small ones, but as large as `estimate` bytes and half as many more
    need, since all have one size. Of 0, for unknown, up to 84 GB get through."""
    return min(max(PART, -(-estimate * 3 // (2 * MOST_PARTS))), LARGEST_PART)


class BucketStore:
    """An ObjectStore. Its connections are kept; safe to use from several threads."""

    def __init__(self, location: S3Location, *, patience: timedelta = timedelta(seconds=60)) -> None:
        """`patience`: how long a request is tried again. Raises Terminal for a CA file that is none."""
        self.location = location
        self._ca = _certificates(location)
        self._store = self._opened(patience, signed=False)
        # nobody reads a small object back when it was written: the storage compares it with what it was
        self._signed = self._opened(patience, signed=True)

    def _opened(self, patience: timedelta, *, signed: bool) -> S3Store:
        """`signed`: what is put goes with its SHA-256, as a checksum and in the signature."""
        location = self.location
        return S3Store(
            location.bucket,
            config=_config(location, signed=signed),  # type: ignore[arg-type]
            credential_provider=_given(location),
            client_options={
                "allow_http": location.url.startswith("http://"),
                "connect_timeout": timedelta(seconds=5),
                "read_timeout": timedelta(seconds=30),
                "timeout": timedelta(hours=1),
                **({"root_certificate": self._ca} if self._ca else {}),
            },
            retry_config={
                "max_retries": 10,
                "retry_timeout": patience,
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=5),
                    "base": 2,
                },
            },
        )

    def create(self, key: str, data: bytes) -> None:
        self._small(key, data)
        with self._told(key):
            obstore.put(self._signed, self._name(key), data, mode="create", use_multipart=False)

    def replace(self, key: str, data: bytes, etag: str) -> str:
        self._small(key, data)
        with self._told(key):
            try:
                put = obstore.put(self._signed, self._name(key), data, mode={"e_tag": etag})
            except FileNotFoundError:
                raise self._changed(key) from None
            return put["e_tag"] or ""

    def get(self, key: str) -> tuple[bytes, Stat]:
        with self._told(key):
            found = obstore.get(self._store, self._name(key))
            if found.meta["size"] > LARGEST_SMALL:
                raise too_large(f"{key} in {self.location.called}", found.meta["size"])
            return bytes(found.bytes()), self._stat(found.meta)

    @contextlib.contextmanager
    def writer(self, key: str, *, estimate: int = 0) -> Iterator[Writer]:
        size = part_size(estimate)
        with (
            self._told(key),
            obstore.open_writer(
                self._store, self._name(key), buffer_size=size, max_concurrency=_UPLOADS
            ) as file,
        ):
            yield _Telling(self, key, file, size * MOST_PARTS)

    @contextlib.contextmanager
    def reader(self, key: str, start: int = 0, *, etag: str = "") -> Iterator[Reader]:
        found = self.stat(key)
        if etag and found.etag != etag:
            raise self._changed(key)
        yield _Resuming(self, key, found, start)

    def stat(self, key: str) -> Stat:
        name = self._name(key)
        try:
            return self._stat(obstore.head(self._store, name))
        except (FileNotFoundError, BaseError, OSError) as error:
            failure = self.failed(key, error)
        if not isinstance(failure, Retryable):  # an answer to HEAD has no body: it cannot say why
            with self._told(key):
                obstore.get(self._store, name, options={"range": (0, 1)})
        raise failure

    def list(self, prefix: str) -> Iterator[Stat]:
        folder, _, _ = prefix.rpartition("/")
        if folder:
            checked(folder)
        base, last = self.location.prefix + (f"{folder}/" if folder else ""), ""
        with self._told(prefix):
            try:
                for page in obstore.list(self._store, prefix=base or None, chunk_size=_PAGE):
                    for meta in page:
                        found = self._stat(meta)
                        if found.key.startswith(prefix) and is_key(found.key):
                            last = found.key
                            yield found
            except InvalidPathError:  # somebody has put there what is no key, `a//b`: the client gives up
                yield from self._besides(prefix, last)

    def _besides(self, prefix: str, after: str) -> Iterator[Stat]:
        from phoenix_orch.recovery.bucket_admin import BucketAdmin  # noqa: PLC0415 - boto3: 0.4 s

        return BucketAdmin(self.location).objects(prefix, after=after)

    def delete(self, key: str) -> None:
        name = self._name(key)
        with self._told(key), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, name)

    def now(self) -> datetime:
        """By the `Date` of an answer, to which no right is needed."""
        where = self.location.called
        try:
            trust: ssl.SSLContext = ssl.create_default_context()
            if self._ca:
                trust.load_verify_locations(cadata=self._ca.decode())
            answer = httpx.head(f"{self.location.url}/{self.location.bucket}", verify=trust, timeout=10.0)
        except httpx.HTTPError as error:
            raise s3_errors.told(str(error), where, "") from None
        try:
            moment = email.utils.parsedate_to_datetime(answer.headers.get("date", ""))
        except ValueError:
            raise Terminal(
                f"{where} does not say what time it is",
                remedy="a proxy may take the header Date away, or change it",
            ) from None
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)

    def piece(self, stat: Stat, start: int) -> Iterator[Any]:
        """From byte `start` on, of this very version."""
        found = obstore.get(
            self._store, self._name(stat.key), options={"range": {"offset": start}, "if_match": stat.etag}
        )
        return iter(found.stream(min_chunk_size=_PIECE))

    def _name(self, key: str) -> str:
        return self.location.prefix + checked(key)

    def _stat(self, meta: Any) -> Stat:
        return Stat(
            key=str(meta["path"]).removeprefix(self.location.prefix),
            size=meta["size"],
            modified=meta["last_modified"].astimezone(UTC),
            etag=meta["e_tag"] or "",
            version=meta["version"] or "",
        )

    def _small(self, key: str, data: bytes) -> None:
        if len(data) > LARGEST_SMALL:
            raise Invalid(f"{len(data):,} bytes for {key}", remedy="write it as a stream")

    @contextlib.contextmanager
    def _told(self, key: str) -> Iterator[None]:
        try:
            yield
        except PhoenixError:
            raise
        except (
            FileNotFoundError,
            AlreadyExistsError,
            PreconditionError,
            BaseError,
            OSError,
            ValueError,
        ) as error:
            raise self.failed(key, error) from None

    def failed(self, key: str, error: Exception) -> PhoenixError:
        """An error of the client as ours."""
        where = self.location.called
        text = str(error)
        if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in text:
            return NotFound(f"there is no {key} in {where}", remedy="list what is there: phoenix backup list")
        if isinstance(error, AlreadyExistsError):
            return Conflict(f"{key} is in {where} already", remedy="read it and decide again")
        if isinstance(error, PreconditionError):
            return self._changed(key)
        return s3_errors.told(text, where, key)

    def _changed(self, key: str) -> Conflict:
        return Conflict(
            f"{key} in {self.location.called} was changed meanwhile", remedy="read it and decide again"
        )


class _Telling:
    """An upload whose errors are ours; the block's own pass by."""

    def __init__(self, store: BucketStore, key: str, file: Any, most: int) -> None:
        self._store, self._key, self._file, self._left = store, key, file, most

    def write(self, data: bytes, /) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise Terminal(
                f"{self._key} is far larger than expected, and an upload has {MOST_PARTS:,} parts at most",
                remedy="compress more (backup.compression), or back up less in one piece",
            )
        try:
            self._file.write(data)
        except (BaseError, OSError) as error:
            raise self._store.failed(self._key, error) from None
        return len(data)


class _Resuming:
    """Reads one version of an object to its end, however often the line breaks."""

    def __init__(self, store: BucketStore, key: str, stat: Stat, start: int) -> None:
        self._store, self._key, self._object = store, key, stat
        self._at = start
        self._pieces: Iterator[Any] | None = None
        self._rest = memoryview(b"")

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(_CHUNK), b""))
        failures = 0
        while not self._rest and self._at < self._object.size and size:
            try:
                if self._pieces is None:
                    self._pieces = self._store.piece(self._object, self._at)
                self._rest = memoryview(bytes(next(self._pieces, b"")))
            except (BaseError, OSError) as error:
                failure = self._store.failed(self._key, error)
                if not isinstance(failure, Retryable):
                    raise failure from None
            else:
                failure = Retryable(
                    f"{self._key} in {self._store.location.called} ends before its end", remedy="try again"
                )
            if not self._rest:  # broken off, or ended early
                self._pieces = None
                failures += 1
                if failures > RESUMPTIONS:
                    raise failure
        part = self._rest[:size]
        self._rest = self._rest[len(part) :]
        if not self._rest:
            self._rest = memoryview(b"")
        self._at += len(part)
        return bytes(part)


def _config(location: S3Location, *, signed: bool) -> dict[str, Any]:
    """All that the environment could say is said here: what is given wins over it."""
    config: dict[str, Any] = {
        "region": location.region,
        "endpoint": location.url,
        "aws_endpoint_url_s3": location.url,
        "virtual_hosted_style_request": False,
        "skip_signature": False,
        "s3_express": False,
        "conditional_put": "etag",
        "disable_bulk_delete": True,
        "unsigned_payload": not signed and location.url.startswith("https://"),
    }
    if signed:
        config["checksum_algorithm"] = "SHA256"
    if location.sse:
        config["server_side_encryption"] = location.sse
        if location.sse == "aws:kms":
            config["sse_bucket_key_enabled"] = True
            if location.kms_key:
                config["sse_kms_key_id"] = location.kms_key
    return config


def _given(location: S3Location) -> Any:
    """Keys that are given, whatever session the environment is in; None: as the machine has them."""
    if not location.access_key:
        return None
    return lambda: {
        "access_key_id": location.access_key,
        "secret_access_key": location.secret_key,
        "token": location.session_token or None,
        "expires_at": None,
    }


def _certificates(location: S3Location) -> bytes:
    if location.ca_file is None:
        return b""
    try:
        content = location.ca_file.read_bytes()
        ssl.create_default_context(cadata=content.decode())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it holds no certificate in PEM"
        raise Terminal(
            f"backup.storage.s3.caFile {location.ca_file} cannot be used: {str(reason).lower()}",
            remedy="name a file with the certificate of the authority",
        ) from None
    return content

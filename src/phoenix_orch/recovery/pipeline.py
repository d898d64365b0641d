"""Seal a stream for its recipients, and open it again: zstd, then age, in constant memory.

What is written opens by hand: `age -d -i KEY | zstd -d`. Two threads overlap: one reads, digests and
compresses, the other encrypts and stores; between them is a queue of a few MiB, so that a slow store slows
the reader down and nothing grows. Opening goes the other way round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Protocol, cast

import pyrage  # type: ignore[import-untyped]
import zstandard

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.recovery.errors import Corrupted, Stopped, WrongKey
from phoenix_orch.recovery.handover import Handover
from phoenix_orch.recovery.keys import Identity, Recipient
from phoenix_orch.recovery.objects import Reader, Writer
from phoenix_orch.recovery.zstd_frames import Frames

CHUNK = 1024 * 1024
"""Bytes read at once."""
_OTHER_BACKUP = "use another backup; phoenix backup list shows which hold"
_NO_MATCH = "no matching keys"


@dataclass(frozen=True, slots=True)
class Sealed:
    """The two ends of a stream: as it was, and as it is stored. Digests are hexadecimal SHA-256."""

    raw_bytes: int
    raw_sha256: str
    stored_bytes: int
    stored_sha256: str


class Progress(Protocol):
    def __call__(self, raw_bytes: int, /) -> None:
        """`raw_bytes`: so many of the stream as it was have passed until now."""


def _no_progress(_: int, /) -> None:
    return


def _never() -> bool:
    return False


def seal(
    source: Reader,
    sink: Writer,
    recipients: Sequence[Recipient],
    *,
    level: int = 1,
    progress: Progress = _no_progress,
    stop: Callable[[], bool] = _never,
) -> Sealed:
    """Read `source` to its end into `sink`. `level`: of zstd, -5 to 19.

    Raises what `source` and `sink` raise, and Stopped as soon as `stop` says so and the read that runs has
    ended. Whoever opened the sink drops what it holds then.
    """
    handover = Handover()
    encrypting = handover.other_side(lambda: _encrypt(handover, sink, recipients))
    raw = _Digest()
    with encrypting:
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=True).chunker(chunk_size=CHUNK)
        while chunk := source.read(CHUNK):
            _heed(stop)
            raw.add(chunk)
            for compressed in compressor.compress(chunk):
                handover.write(compressed)
            progress(raw.size)
        _heed(stop)
        for compressed in compressor.finish():  # type: ignore[no-untyped-call]
            handover.write(compressed)
        handover.end()
        stored = encrypting.result()
    return Sealed(raw.size, raw.hex, stored.size, stored.hex)


def unseal(
    source: Reader,
    sink: Writer,
    identities: Sequence[Identity],
    expected: Sealed | None,
    *,
    progress: Progress = _no_progress,
    stop: Callable[[], bool] = _never,
) -> Sealed:
    """Read a sealed `source` to its end, and its content into `sink`.

    Raises Corrupted, saying where, when it is not whole or not what `expected` says, WrongKey when none of
    the identities opens it, and what `source` and `sink` raise. Parts were written to the sink by then, and
    only what returns is proven: nothing may be committed before.
    """
    handover = Handover()
    stored = _In(source)
    decrypting = handover.other_side(lambda: _decrypt(stored, handover, identities, expected))
    raw = _Digest()
    frames = _Framed(handover)
    with decrypting:
        decompressor = zstandard.ZstdDecompressor(max_window_size=2**27)
        with decompressor.stream_reader(_as_file(frames), read_across_frames=True, closefd=False) as plain:
            while chunk := _decompressed(plain, stored):
                _heed(stop)
                raw.add(chunk)
                if expected is not None and raw.size > expected.raw_bytes:
                    raise Corrupted(
                        f"the content goes on past its {expected.raw_bytes:,} bytes", remedy=_OTHER_BACKUP
                    )
                sink.write(chunk)
                progress(raw.size)
        decrypting.result()
        if not frames.seen.whole:
            raise Corrupted(
                f"the compressed stream ends in the middle, after {raw.size:,} bytes of content",
                remedy=_OTHER_BACKUP,
            )
    found = Sealed(raw.size, raw.hex, stored.digest.size, stored.digest.hex)
    if expected is not None:
        _compare(found, expected)
    return found


def _heed(stop: Callable[[], bool]) -> None:
    if stop():
        raise Stopped("stopped; nothing of it was kept", remedy="start it again when you like")


class _Digest:
    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._hash.update(data)

    @property
    def hex(self) -> str:
        return self._hash.hexdigest()


class _In:
    """What age reads, 8 KiB at a time, out of larger reads; it keeps the error of the reader behind it."""

    def __init__(self, behind: Reader) -> None:
        self.digest = _Digest()
        self.failure: BaseException | None = None
        self._behind = behind
        self._buffer = memoryview(b"")

    def read(self, size: int = -1, /) -> bytes:
        if not self._buffer:
            try:
                chunk = self._behind.read(CHUNK)
            except BaseException as error:
                self.failure = error
                raise
            self.digest.add(chunk)
            self._buffer = memoryview(chunk)
        part = self._buffer if size < 0 else self._buffer[:size]
        self._buffer = self._buffer[len(part) :]
        return bytes(part)


class _Out:
    """What age writes to; it keeps the error of the writer behind it."""

    def __init__(self, behind: Writer) -> None:
        self.digest = _Digest()
        self.failure: BaseException | None = None
        self._behind = behind

    def write(self, data: bytes, /) -> int:
        self.digest.add(data)
        try:
            self._behind.write(data)
        except BaseException as error:
            self.failure = error
            raise
        return len(data)

    def flush(self) -> None:
        """Pyrage calls it; when to commit, whoever opened the sink decides."""


def _encrypt(source: Handover, sink: Writer, recipients: Sequence[Recipient]) -> _Digest:
    stored = _Out(sink)
    try:
        pyrage.encrypt_io(source, stored, [one.key() for one in recipients])
    except (pyrage.EncryptError, OSError) as error:
        raise (stored.failure or source.given_up or error) from None
    if stored.failure is not None:  # pyrage 1.4 says nothing when its last write fails
        raise stored.failure
    return stored.digest


def _decrypt(stored: _In, sink: Handover, identities: Sequence[Identity], expected: Sealed | None) -> None:
    plain = _Gathered(sink)
    try:
        pyrage.decrypt_io(stored, plain, [one.key for one in identities])
    except (pyrage.DecryptError, OSError) as error:
        if failure := stored.failure or sink.given_up:
            raise failure from None
        if _NO_MATCH in str(error).lower():
            raise _closed(stored, expected) from None
        raise Corrupted(
            f"decryption fails within the {CHUNK:,} bytes before byte {stored.digest.size:,} of what is "
            "stored: bytes were changed, cut off or added",
            remedy=_OTHER_BACKUP,
        ) from None
    if sink.given_up is not None:
        raise sink.given_up
    if stored.read(1):
        raise Corrupted("there is more after the end of what was encrypted", remedy=_OTHER_BACKUP)
    plain.hand_on()
    sink.end()


class _Gathered:
    """Writes of 8 KiB handed on by the MiB: each one wakes the other thread."""

    def __init__(self, sink: Handover) -> None:
        self._sink = sink
        self._parts = bytearray()

    def write(self, data: bytes, /) -> int:
        self._parts += data
        if len(self._parts) >= CHUNK:
            self.hand_on()
        return len(data)

    def flush(self) -> None:
        """Pyrage calls it; `hand_on` is called once all is known to be sound."""

    def hand_on(self) -> None:
        self._sink.write(bytes(self._parts))
        self._parts.clear()


def _closed(stored: _In, expected: Sealed | None) -> PhoenixError:
    """No identity fits: by a damaged header, if what is stored is not what was."""
    if expected is not None:
        while stored.read():
            pass
        if (stored.digest.size, stored.digest.hex) != (expected.stored_bytes, expected.stored_sha256):
            return Corrupted("what is stored is not what was: its header was changed", remedy=_OTHER_BACKUP)
    return WrongKey(
        "none of the private keys at hand opens it",
        remedy="name the file of one it was sealed for: the online key (backup.identityFile), or the "
        "offline recovery key",
    )


class _Framed:
    """A reader that sees where the frames of what passes end."""

    def __init__(self, behind: Reader) -> None:
        self.seen = Frames()
        self._behind = behind

    def read(self, size: int = -1, /) -> bytes:
        data = self._behind.read(size)
        self.seen.feed(data)
        return data


def _as_file(reader: Reader) -> IO[bytes]:
    """Zstandard asks for no more than `read`."""
    return cast("IO[bytes]", reader)


def _decompressed(plain: zstandard.ZstdDecompressionReader, stored: _In) -> bytes:
    try:
        return plain.read(CHUNK)
    except zstandard.ZstdError as error:
        raise Corrupted(
            f"decompression fails before byte {stored.digest.size:,} of what is stored: {error}",
            remedy=_OTHER_BACKUP,
        ) from None


def _compare(found: Sealed, expected: Sealed) -> None:
    if (found.stored_bytes, found.stored_sha256) != (expected.stored_bytes, expected.stored_sha256):
        raise Corrupted(
            f"what is stored is not what was: {found.stored_bytes:,} bytes with SHA-256 "
            f"{found.stored_sha256[:12]}…, and {expected.stored_bytes:,} with {expected.stored_sha256[:12]}… "
            "were written",
            remedy=_OTHER_BACKUP,
        )
    if found != expected:
        raise Corrupted(
            f"the content is not what it was: {found.raw_bytes:,} bytes with SHA-256 "
            f"{found.raw_sha256[:12]}…, and {expected.raw_bytes:,} with {expected.raw_sha256[:12]}… "
            "were read",
            remedy=_OTHER_BACKUP,
        )

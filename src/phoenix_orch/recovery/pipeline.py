"""Seal a stream for its recipients, and open it again: zstd, then age, in constant memory.

What is written opens by hand: `age -d -i KEY | zstd -d`. Two threads overlap: one reads, digests and
compresses, the other stores; between them age encrypts, and few MiB wait, so that a slow store slows the
reader down and nothing grows. Opening goes the other way round. What is large is encrypted in a process of
its own (`age_process.py`), what is small by the thread that stores. What seals takes from the processors
what is left.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Protocol, cast

import zstandard

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.recovery import age_thread
from phoenix_orch.recovery.age_failure import NotOpened, Why
from phoenix_orch.recovery.age_process import AgeProcess, age_process
from phoenix_orch.recovery.digest import Digest, SealedDigest
from phoenix_orch.recovery.errors import Corrupted, Stopped, WrongKey
from phoenix_orch.recovery.handover import Channel, Handover, OtherSide
from phoenix_orch.recovery.keys import Identity, Recipient
from phoenix_orch.recovery.objects import Reader, Writer
from phoenix_orch.recovery.zstd_frames import Frames

CHUNK = 1024 * 1024
"""Bytes read at once."""
SMALL = 4 * 1024 * 1024
"""Sealed bytes up to which no process is started: that takes 50 ms."""
_OTHER_BACKUP = "use another backup; phoenix backup list shows which hold"


@dataclass(frozen=True, slots=True)
class Sealed:
    """The two ends of a stream: as it was, and as it is stored. Digests are hexadecimal SHA-256."""

    raw_bytes: int
    raw_sha256: str
    stored_bytes: int
    stored_sha256: str
    header_sha256: str = field(default="", compare=False)
    """Of the header of age; `seal` alone tells it."""


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
    """Read `source` to its end into `sink`. `level`: of zstd, -5 to 19. What is large is read by a thread
    that steps back before whoever else wants the processors; `progress` and `stop` are called there.

    Raises what `source` and `sink` raise, and Stopped as soon as `stop` says so and the read that runs has
    ended. Whoever opened the sink drops what it holds then.
    """
    raw = Digest()
    compressed = _compressed(source, raw, level, progress, stop)
    first, small = _first(compressed)
    compressed = itertools.chain(first, compressed)
    if small:
        handover = Handover()
        with OtherSide(handover, lambda: age_thread.encrypt(handover, sink, recipients)) as storing:
            _hand_on(compressed, handover)
            stored = storing.result()
    else:
        with (
            age_process("encrypt", [one.text for one in recipients], gently=True) as process,
            OtherSide(process, lambda: _store(process, sink), gently=True) as storing,
            OtherSide(process, lambda: _hand_on(compressed, process), gently=True) as reading,
        ):
            reading.result()
            stored = storing.result()
    return Sealed(raw.size, raw.hex, stored.size, stored.hex, stored.header_hex)


def _hand_on(pieces: Iterator[bytes], channel: Channel) -> None:
    for piece in pieces:
        channel.write(piece)
    channel.end()


def _compressed(
    source: Reader, raw: Digest, level: int, progress: Progress, stop: Callable[[], bool]
) -> Iterator[bytes]:
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=True).chunker(chunk_size=CHUNK)
    while chunk := source.read(CHUNK):
        _heed(stop)
        raw.add(chunk)
        yield from compressor.compress(chunk)
        progress(raw.size)
    _heed(stop)
    yield from compressor.finish()  # type: ignore[no-untyped-call]


def _first(pieces: Iterator[bytes]) -> tuple[list[bytes], bool]:
    """As many as tell whether all of them are small, and whether they are."""
    taken, size = list[bytes](), 0
    for piece in pieces:
        taken.append(piece)
        size += len(piece)
        if size > SMALL:
            return taken, False
    return taken, True


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
    pieces = _chunks(source)
    first, small = _first(pieces)
    pieces = itertools.chain(first, pieces)
    raw, stored = Digest(), Digest()
    try:
        with contextlib.ExitStack() as ending:
            channel: Channel
            if small or not all(one.secret for one in identities):
                channel = handover = Handover()
                fetching = OtherSide(
                    channel, lambda: age_thread.decrypt(pieces, stored, handover, identities)
                )
            else:
                secrets = [one.secret for one in identities]
                channel = process = ending.enter_context(age_process("decrypt", secrets))
                fetching = OtherSide(channel, lambda: _fetch(pieces, process, stored))
            ending.enter_context(fetching)
            frames = _Framed(channel)
            for chunk in _decompressed(frames, fetching):
                _heed(stop)
                raw.add(chunk)
                if expected is not None and raw.size > expected.raw_bytes:
                    raise Corrupted(
                        f"the content goes on past its {expected.raw_bytes:,} bytes", remedy=_OTHER_BACKUP
                    )
                sink.write(chunk)
                progress(raw.size)
            fetching.result()
    except NotOpened as error:
        raise _not_opened(error, stored, expected) from None
    if not frames.seen.whole:
        raise Corrupted(
            f"the compressed stream ends in the middle, after {raw.size:,} bytes of content",
            remedy=_OTHER_BACKUP,
        )
    found = Sealed(raw.size, raw.hex, stored.size, stored.hex)
    if expected is not None:
        _compare(found, expected)
    return found


def _heed(stop: Callable[[], bool]) -> None:
    if stop():
        raise Stopped("stopped; nothing of it was kept", remedy="start it again when you like")


def _chunks(source: Reader) -> Iterator[bytes]:
    while chunk := source.read(CHUNK):
        yield chunk


def _store(sealed: AgeProcess, sink: Writer) -> SealedDigest:
    stored = SealedDigest()
    while chunk := sealed.read(CHUNK):
        stored.add(chunk)
        sink.write(chunk)
    return stored


def _fetch(pieces: Iterator[bytes], sealed: AgeProcess, stored: Digest) -> None:
    _hand_on(map(stored.passed, pieces), sealed)


def _not_opened(error: NotOpened, stored: Digest, expected: Sealed | None) -> PhoenixError:
    if error.why is Why.MORE:
        return Corrupted("there is more after the end of what was encrypted", remedy=_OTHER_BACKUP)
    if error.why is not Why.NO_MATCH:
        return Corrupted(
            f"decryption fails within the {CHUNK:,} bytes before byte {error.taken:,} of what is "
            "stored: bytes were changed, cut off or added",
            remedy=_OTHER_BACKUP,
        )
    if expected is not None and (stored.size, stored.hex) != (expected.stored_bytes, expected.stored_sha256):
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


def _decompressed(frames: _Framed, fetching: OtherSide[None]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=2**27)
    try:
        with decompressor.stream_reader(_as_file(frames), read_across_frames=True, closefd=False) as plain:
            yield from iter(lambda: plain.read(CHUNK), b"")
    except zstandard.ZstdError as error:
        raise Corrupted(
            f"decompression fails before byte {frames.seen.offset:,} of the compressed stream: {error}",
            remedy=_OTHER_BACKUP,
        ) from None
    except NotOpened as error:
        if error.why is Why.NO_MATCH:
            fetching.result()  # the digest of all that is stored tells whether the header was changed
        raise


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

"""age in the thread that calls, for what is small, and for keys of SSH."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyrage  # type: ignore[import-untyped]

from phoenix_orch.recovery.age_failure import NotOpened, Why, failed
from phoenix_orch.recovery.digest import Digest, SealedDigest
from phoenix_orch.recovery.handover import Handover
from phoenix_orch.recovery.keys import Identity, Recipient
from phoenix_orch.recovery.objects import Writer

PIECE = 1024 * 1024


def encrypt(source: Handover, sink: Writer, recipients: Sequence[Recipient]) -> SealedDigest:
    """What was stored. Raises GivenUp, and what `sink` raises."""
    stored = _Out(sink)
    try:
        pyrage.encrypt_io(source, stored, [one.key() for one in recipients])
    except (pyrage.EncryptError, OSError) as error:
        raise (stored.failure or source.given_up or error) from None
    if stored.failure is not None:  # pyrage 1.4 says nothing when its last write fails
        raise stored.failure
    return stored.digest


def decrypt(pieces: Iterator[bytes], stored: Digest, sink: Handover, identities: Sequence[Identity]) -> None:
    """`stored` digests what was read: all of it, where no key fits. Raises NotOpened, GivenUp, and what
    `pieces` raise."""
    source, plain = _In(pieces, stored), _Gathered(sink)
    try:
        pyrage.decrypt_io(source, plain, [one.key for one in identities])
    except (pyrage.DecryptError, OSError) as error:
        if failure := source.failure or sink.given_up:
            raise failure from None
        why = failed(error)
        while why is Why.NO_MATCH and source.read(PIECE):
            pass
        raise NotOpened(why, stored.size) from None
    if sink.given_up is not None:
        raise sink.given_up
    if source.read(1):
        raise NotOpened(Why.MORE, stored.size)
    plain.hand_on()
    sink.end()


class _In:
    """What age reads, 8 KiB at a time, out of larger pieces; it keeps the error of what is behind it."""

    def __init__(self, pieces: Iterator[bytes], digest: Digest) -> None:
        self.failure: BaseException | None = None
        self._pieces = pieces
        self._digest = digest
        self._buffer = memoryview(b"")

    def read(self, size: int = -1, /) -> bytes:
        if not self._buffer:
            try:
                piece = next(self._pieces, b"")
            except BaseException as error:
                self.failure = error
                raise
            self._digest.add(piece)
            self._buffer = memoryview(piece)
        part = self._buffer if size < 0 else self._buffer[:size]
        self._buffer = self._buffer[len(part) :]
        return bytes(part)


class _Out:
    """What age writes to; it keeps the error of the writer behind it."""

    def __init__(self, behind: Writer) -> None:
        self.digest = SealedDigest()
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


class _Gathered:
    """Writes of 8 KiB handed on by the MiB: each one wakes the other thread."""

    def __init__(self, sink: Handover) -> None:
        self._sink = sink
        self._parts = bytearray()

    def write(self, data: bytes, /) -> int:
        self._parts += data
        if len(self._parts) >= PIECE:
            self.hand_on()
        return len(data)

    def flush(self) -> None:
        """Pyrage calls it; `hand_on` is called once all is known to be sound."""

    def hand_on(self) -> None:
        self._sink.write(bytes(self._parts))
        self._parts.clear()

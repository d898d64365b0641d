"""What is sealed opens again, whole, with the right key; nothing else opens."""

from __future__ import annotations

import io
import random
import subprocess
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import debian

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.recovery import keys, pipeline
from phoenix_orch.recovery.errors import Corrupted, Stopped, WrongKey
from phoenix_orch.recovery.pipeline import Sealed, seal, unseal
from phoenix_orch.recovery.zstd_frames import Frames

ONLINE, OFFLINE, STRANGER = keys.generate(), keys.generate(), keys.generate()
RECIPIENTS = [keys.Recipient(ONLINE.public), keys.Recipient(OFFLINE.public, offline=True)]


class Pieces:
    """Reads that give as much as they like."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self.file, self.sizes, self.turn = io.BytesIO(data), sizes or [1 << 20], 0

    def read(self, size: int = -1, /) -> bytes:
        self.turn += 1
        wanted = self.sizes[self.turn % len(self.sizes)]
        return self.file.read(wanted if size < 0 else min(size, wanted))


def sealed(data: bytes, level: int = 1) -> tuple[bytes, Sealed]:
    sink = io.BytesIO()
    told = seal(io.BytesIO(data), sink, RECIPIENTS, level=level)
    return sink.getvalue(), told


def opened(stored: bytes, expected: Sealed | None, key: keys.Identity = ONLINE) -> bytes:
    sink = io.BytesIO()
    unseal(io.BytesIO(stored), sink, [key], expected)
    return sink.getvalue()


content = st.one_of(
    st.binary(max_size=2000),
    st.tuples(st.binary(min_size=1, max_size=50), st.integers(0, 60_000)).map(lambda p: p[0] * p[1]),
)


@given(content, st.lists(st.integers(1, 300_000), max_size=5), st.lists(st.integers(1, 300_000), max_size=5))
@settings(max_examples=60, deadline=None)
def test_round_trip_in_any_pieces(data: bytes, reads: list[int], later: list[int]) -> None:
    sink = io.BytesIO()
    told = seal(Pieces(data, reads), sink, RECIPIENTS)
    assert told.raw_bytes == len(data)
    assert told.stored_bytes == len(sink.getvalue())
    for key in (ONLINE, OFFLINE):
        out = io.BytesIO()
        assert unseal(Pieces(sink.getvalue(), later), out, [STRANGER, key], told) == told
        assert out.getvalue() == data
        assert unseal(io.BytesIO(sink.getvalue()), io.BytesIO(), [key], None) == told


DATA = bytes(range(256)) * 3000 + b"end"
STORED, TOLD = sealed(DATA)


@given(st.integers(0, len(STORED) - 1), st.integers(1, 255), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_changed_byte_is_refused(position: int, change: int, known: bool) -> None:
    damaged = STORED[:position] + bytes([STORED[position] ^ change]) + STORED[position + 1 :]
    refusal = Corrupted if known else (Corrupted, WrongKey)
    with pytest.raises(refusal):
        opened(damaged, TOLD if known else None)


@given(st.integers(0, len(STORED) - 1), st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_cut_is_refused(length: int, known: bool) -> None:
    with pytest.raises(Corrupted if known else (Corrupted, WrongKey)):
        opened(STORED[:length], TOLD if known else None)


@given(st.binary(min_size=1, max_size=70_000), st.booleans())
@settings(max_examples=50, deadline=None)
def test_what_is_appended_is_refused(more: bytes, known: bool) -> None:
    with pytest.raises(Corrupted):
        opened(STORED + more, TOLD if known else None)


def test_another_sealed_stream_is_refused_when_one_is_expected() -> None:
    other, _ = sealed(DATA)
    with pytest.raises(Corrupted, match="stored is not what was"):
        opened(other, TOLD)
    longer, _ = sealed(DATA + b"more")
    with pytest.raises(Corrupted, match="goes on past"):
        opened(longer, TOLD)


def test_a_wrong_key_says_so() -> None:
    for expected in (TOLD, None):
        with pytest.raises(WrongKey, match="none of the private keys"):
            opened(STORED, expected, STRANGER)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_stream_that_ends_within_a_frame_is_refused_though_age_is_content(data: st.DataObject) -> None:
    compressed = zstandard.ZstdCompressor(write_checksum=True).compress(DATA)
    length = data.draw(st.integers(0, len(compressed) - 1))
    with pytest.raises(Corrupted):
        opened(keys.sealed_small(compressed[:length], RECIPIENTS), None)


@given(st.lists(st.tuples(content, st.sampled_from([-3, 1, 6]), st.booleans()), max_size=3), st.data())
@settings(max_examples=100, deadline=None)
def test_frames_are_followed_to_their_ends(parts: list[tuple[bytes, int, bool]], data: st.DataObject) -> None:
    frames, ends = b"", {0}
    for raw, level, sized in parts:
        compressor = zstandard.ZstdCompressor(level, write_checksum=sized, write_content_size=sized)
        frames += compressor.compress(raw) + b"\x51\x2a\x4d\x18\x03\x00\x00\x00abc"
        ends |= {len(frames) - 11, len(frames)}
    cuts = sorted(data.draw(st.lists(st.integers(0, len(frames)), max_size=6)))
    seen, last = Frames(), 0
    for cut in [*cuts, len(frames)]:
        seen.feed(frames[last:cut])
        last = cut
        assert seen.whole == (cut in ends and cut > 0)


def test_zeros_by_the_gigabyte_open_in_little_memory() -> None:
    """64 KiB of a compressed stream may hold 2 GB: it has to come out in pieces."""

    class Zeros:
        left = 300

        def read(self, size: int = -1, /) -> bytes:
            self.left -= 1
            return bytes(1 << 20) if self.left >= 0 else b""

    class Largest:
        seen = 0

        def write(self, data: bytes, /) -> int:
            self.seen = max(self.seen, len(data))
            return len(data)

    stored, largest = io.BytesIO(), Largest()
    told = seal(Zeros(), stored, RECIPIENTS)
    assert told.stored_bytes < 100_000
    unseal(io.BytesIO(stored.getvalue()), largest, [ONLINE], told)
    assert largest.seen <= pipeline.CHUNK


class Broken:
    """Fails at byte `k`, as a source or a sink."""

    def __init__(self, k: int, data: bytes = b"") -> None:
        self.left, self.file = k, io.BytesIO(data)

    def read(self, size: int = -1, /) -> bytes:
        return self._pass(self.file.read(min(size, 10_000)))

    def write(self, data: bytes, /) -> int:
        return len(self._pass(data))

    def _pass(self, data: bytes) -> bytes:
        self.left -= len(data)
        if self.left < 0:
            raise Retryable("the line is down", remedy="wait")
        return data


@given(st.integers(0, 700_000))
@settings(max_examples=40, deadline=None)
def test_the_error_of_either_end_is_what_is_raised(k: int) -> None:
    noise = random.Random(1).randbytes(800_000)
    with pytest.raises(Retryable, match="the line is down"):
        seal(Broken(k, noise), io.BytesIO(), RECIPIENTS)
    stored, told = sealed(noise)
    if k < len(stored):
        with pytest.raises(Retryable, match="the line is down"):
            seal(io.BytesIO(noise), Broken(k), RECIPIENTS)
        with pytest.raises(Retryable, match="the line is down"):
            unseal(Broken(k, stored), io.BytesIO(), [ONLINE], told)
    with pytest.raises(Retryable, match="the line is down"):
        unseal(io.BytesIO(stored), Broken(min(k, len(noise) - 1)), [ONLINE], told)


def test_it_stops_when_it_is_told_to() -> None:
    seen: list[int] = []
    with pytest.raises(Stopped):
        seal(
            Pieces(DATA * 20, [100_000]),
            io.BytesIO(),
            RECIPIENTS,
            progress=seen.append,
            stop=lambda: len(seen) >= 3,
        )
    assert seen == [100_000, 200_000, 300_000]
    with pytest.raises(Stopped):
        unseal(io.BytesIO(STORED), io.BytesIO(), [ONLINE], TOLD, stop=lambda: True)


def test_the_command_lines_of_age_and_zstd_open_it_and_the_other_way_round(tmp_path: Path) -> None:
    age, zstd = debian.program("age", "age"), debian.program("zstd", "zstd")
    (tmp_path / "key").write_text(OFFLINE.secret)
    compressed = subprocess.run(
        [age, "-d", "-i", tmp_path / "key"], input=STORED, check=True, capture_output=True
    ).stdout
    assert subprocess.run([zstd, "-dc"], input=compressed, check=True, capture_output=True).stdout == DATA
    by_hand = subprocess.run([zstd, "-19", "-c"], input=DATA, check=True, capture_output=True).stdout
    by_hand = subprocess.run(
        [age, "-r", ONLINE.public, "-r", OFFLINE.public], input=by_hand, check=True, capture_output=True
    ).stdout
    assert opened(by_hand, None, OFFLINE) == DATA

"""The end mark and the header of a dump, cut in every place."""

from __future__ import annotations

import contextlib
import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.recovery.rdb_header import parse
from phoenix_orch.recovery.sources.eof_mark import LENGTH, EofMark

MARK = b"0123456789abcdef0123456789abcdef01234567"
bodies = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from([MARK[:39], MARK[1:], MARK[:1], MARK[:20], b"x"]), max_size=8).map(b"".join),
).filter(lambda body: MARK not in body + MARK[:-1])


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(body=bodies, cuts=st.lists(st.integers(1, 300)), last=st.booleans())
def test_what_comes_out_is_the_body(body, cuts, last):
    mark = EofMark(MARK, last=last)
    out = b""
    for piece in pieces(body + MARK, cuts):
        assert not mark.ended
        out += mark.feed(piece)
    assert mark.ended
    assert out == body


@given(body=bodies, cuts=st.lists(st.integers(1, 300)), after=st.binary(max_size=100))
def test_what_follows_is_dropped_where_something_may_follow(body, cuts, after):
    mark, out = EofMark(MARK, last=False), b""
    for piece in pieces(body + MARK + after, cuts):
        out += mark.feed(piece)
        if mark.ended:
            break
    assert out == body


@given(body=bodies, missing=st.integers(1, LENGTH))
def test_a_part_of_the_mark_is_no_end(body, missing):
    mark = EofMark(MARK)
    mark.feed((body + MARK)[:-missing])
    assert not mark.ended


def text(value: str) -> bytes:
    data = value.encode()
    if value.lstrip("-").isdecimal() and str(int(value)) == value and -(2**31) <= int(value) < 2**31:
        number = int(value)
        width = next(w for w in (1, 2, 4) if -(1 << 8 * w - 1) <= number < 1 << 8 * w - 1)
        return bytes([0xC0 | {1: 0, 2: 1, 4: 2}[width]]) + number.to_bytes(width, "little", signed=True)
    if len(data) < 64:
        return bytes([len(data)]) + data
    if len(data) < 16384:
        return bytes([0x40 | len(data) >> 8, len(data) & 0xFF]) + data
    return b"\x80" + len(data).to_bytes(4, "big") + data


values = st.one_of(st.integers(-(2**31), 2**31 - 1).map(str), st.text(max_size=300))


@given(fields=st.dictionaries(st.text(min_size=1, max_size=20), values, max_size=6))
def test_every_field_is_read_and_more_bytes_are_asked_for_until_then(fields):
    head = b"VALKEY080" + b"".join(b"\xfa" + text(key) + text(value) for key, value in fields.items())
    header = parse(head + b"\xfe\x00")
    assert header is not None
    assert header.fields == fields
    assert header.format == "VALKEY080"
    for end in range(len(head) + 1):
        assert parse(head[:end]) is None


@given(st.binary(max_size=300))
def test_no_bytes_do_harm(data):
    for start in (b"", b"REDIS0011", b"REDIS0011\xfa"):
        with contextlib.suppress(Terminal):
            parse(start + data)


def test_what_is_no_dump_is_refused():
    for data in (b"\x28\xb5\x2f\xfd" + os.urandom(20), b"age-encryption.org", b"VALKEYxyz...", b"x"):
        with pytest.raises(Terminal):
            parse(data)

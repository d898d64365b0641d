"""Messages of a stream: what a reader gets who is up to date, who lags, and who comes from elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.api.feed import CHUNK, chunks
from phoenix_orch.api.ring import Ring


def test_a_message_carries_its_number_in_the_ring():
    ring = Ring("ab", most=1000)
    ring.append("event", '{"a":1}')
    assert ring.since(0) == [b'event: event\ndata: {"a":1}\nid: ab-1\n\n']
    assert ring.since(1) == []


def test_whoever_lags_behind_the_ring_is_told_so():
    ring = Ring("ab", most=100)
    for number in range(20):
        ring.append("n", str(number))
    assert ring.since(0) is None
    newest = ring.since(18)
    assert [message.split(b"\n")[1] for message in newest] == [b"data: 18", b"data: 19"]


def test_one_message_larger_than_the_ring_is_kept_alone():
    ring = Ring("ab", most=10)
    ring.append("n", "x" * 100)
    ring.append("n", "y" * 100)
    assert ring.since(0) is None
    assert len(ring.since(1)) == 1


@pytest.mark.parametrize(
    "identity", ["", "ab", "ab-", "cd-1", "ab-x", "ab--1", "1", "ab-²", "ab-" + "9" * 30]
)
def test_ids_of_elsewhere_are_no_position(identity):
    assert Ring("ab", most=100).position(identity) is None


def test_a_position_ahead_of_the_ring_is_none_of_it():
    ring = Ring("ab", most=100)
    assert ring.since(ring.position("ab-7")) is None


@given(st.lists(st.text(alphabet="xyz", max_size=30), max_size=40), st.integers(0, 40), st.integers(30, 400))
def test_a_reader_gets_everything_once_or_is_told_that_it_cannot(texts, position, most):
    ring = Ring("ab", most=most)
    for text in texts:
        ring.append("n", text)
    found = ring.since(position)
    if found is not None:
        numbers = [int(message.rsplit(b"-", 1)[1]) for message in found]
        assert numbers == list(range(position + 1, len(texts) + 1))


@given(st.lists(st.integers(1, 2 * CHUNK), max_size=8))
def test_what_comes_together_is_sent_together_up_to_a_size(sizes):
    messages = [bytes([number]) * size for number, size in enumerate(sizes)]
    sent = list(chunks(messages))
    assert b"".join(sent) == b"".join(messages)
    assert all(len(piece) <= CHUNK or piece in messages for piece in sent)
    if sum(sizes) <= CHUNK:
        assert len(sent) <= 1

"""Servers that die, stall, or speak oddly while they send their dump."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.integration.scripted_redis import MARK, REPLICATION, Script, scripted
from tests.recovery_outcomes import seen

from phoenix_orch.kernel.errors import Forbidden, PhoenixError, Retryable, Terminal
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.sources.replication import Patience, replicate

DUMP = b"REDIS0011\xfa\x05ctime\xc2\x00\x00\x00\x60" + b"\xfe\x00" + bytes(range(256)) * 4 + b"\xff12345678"
BY_MARK = b"$EOF:" + MARK + b"\r\n"
BY_LENGTH = b"$%d\r\n" % len(DUMP)


def received(script: Script, **patience: float) -> bytes:
    with scripted(script) as address, replicate(address, Patience(**patience)) as stream:
        assert stream.header.format == "REDIS0011"
        assert stream.replication_id == "a" * 40
        assert stream.offset == 1234
        return stream.read()


def refused(script: Script, address: RedisAddress | None = None, **patience: float) -> PhoenixError:
    with pytest.raises(PhoenixError) as caught:
        received(script, **patience)
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("start", [BY_MARK + DUMP + MARK, BY_LENGTH + DUMP])
@pytest.mark.parametrize("waits", [0, 1, 7])
def test_newlines_mean_that_the_server_lives(start, waits):
    script = Script(after_psync=[b"\n"] * waits + [REPLICATION] + [b"\n"] * waits + [start])
    assert received(script) == DUMP


def test_everything_at_once():
    assert received(Script(after_psync=[b"\n\n" + REPLICATION + b"\n" + BY_MARK + DUMP + MARK])) == DUMP


@settings(max_examples=60)
@given(cuts=st.lists(st.integers(1, len(DUMP) + len(MARK) - 1), max_size=4, unique=True))
def test_the_mark_is_taken_off_however_the_stream_is_cut(cuts):
    whole = DUMP + MARK
    edges = [0, *sorted(cuts), len(whole)]
    pieces = [whole[a:b] for a, b in itertools.pairwise(edges)]
    assert received(Script(after_psync=[REPLICATION + BY_MARK, *pieces])) == DUMP


@settings(max_examples=40)
@given(at=st.integers(0, len(DUMP) + len(MARK) - 1))
def test_an_early_end_is_no_end_and_says_how_many_bytes_came(at):
    error = refused(Script(after_psync=[REPLICATION + BY_MARK, (DUMP + MARK)[:at]]))
    assert isinstance(error, Retryable)
    assert f"after {at:,} bytes" in error.message
    seen(
        "A backup",
        "Redis ends the connection",
        "any byte of the dump and its end mark",
        leaves="nothing of it",
        then="it says after how many bytes, and may be tried again",
    )


@settings(max_examples=40)
@given(at=st.integers(0, len(DUMP) - 1))
def test_an_early_end_of_a_dump_of_known_length(at):
    error = refused(Script(after_psync=[REPLICATION + BY_LENGTH, DUMP[:at]]))
    assert f"after {at:,} bytes of {len(DUMP):,}" in error.message


def test_what_an_old_server_sends_after_the_mark_is_no_part_of_the_dump():
    def old(words: list[str]) -> bytes:
        return b"-ERR Unrecognized REPLCONF option: rdb-only\r\n" if words[0] == "rdb-only" else b"+OK\r\n"

    commands = b"*1\r\n$4\r\nPING\r\n" * 30
    script = Script(replconf=old, after_psync=[REPLICATION + BY_MARK, DUMP + MARK + commands])
    assert received(script) == DUMP


def test_the_version_is_told_to_valkey_and_to_nobody_else():
    script = Script(after_psync=[REPLICATION + BY_LENGTH + DUMP])
    received(script)
    assert ["REPLCONF", "version", "9.1.2"] in script.heard
    redis = Script(
        hello=script.hello.replace(b"$6\r\nvalkey", b"$5\r\nredis"), after_psync=script.after_psync
    )
    received(redis)
    assert not [words for words in redis.heard if words[:2] == ["REPLCONF", "version"]]


def test_a_server_that_knows_no_hello_is_asked_all_the_same():
    assert received(
        Script(hello=b"-ERR unknown command 'HELLO'\r\n", after_psync=[REPLICATION + BY_LENGTH + DUMP])
    )


def test_silence_is_not_waited_for_for_ever():
    for pieces in ([], [REPLICATION], [REPLICATION + BY_MARK], [REPLICATION + BY_MARK, DUMP[:500]]):
        error = refused(Script(after_psync=pieces, stalls=True), silence=0.3)
        assert isinstance(error, Retryable)
    assert "has sent nothing for too long, after 500 bytes" in error.message


def test_newlines_alone_are_not_waited_for_for_ever():
    error = refused(Script(after_psync=[b"\n"] * 50, stalls=True), start=-1.0)
    assert "does not begin with its dump" in error.message


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (b"-NOPERM this user has no permissions to run the 'psync' command\r\n", Forbidden, "does not let"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", Retryable, "is loading"),
        (b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n", Retryable, "without a link"),
        (
            b"-ERR unknown command 'psync', with args beginning with: '?' '-1'\r\n",
            Terminal,
            "managed service",
        ),
        (b"-ERR Unable to perform background save: BGSAVE failed\r\n", Retryable, "cannot make a dump"),
        (b"+CONTINUE\r\n", Terminal, "not with +FULLRESYNC"),
        (REPLICATION + b"-BGSAVE failed, replication can't continue\r\n", Retryable, "cannot make a dump"),
        (REPLICATION + b"hello\r\n", Terminal, "announces its dump"),
        (REPLICATION + BY_MARK + b"<html>" + b"x" * 100 + MARK, Terminal, "no dump"),
        (REPLICATION + b"$5\r\nREDIS", Terminal, "no dump"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Terminal, "not with +FULLRESYNC"),
        (b"x" * 100_000, Retryable, "does not speak as Redis does"),
    ],
)
def test_every_refusal_says_what_was_found_and_what_to_do(answer, kind, words):
    error = refused(Script(after_psync=[answer]))
    assert isinstance(error, kind)
    assert words in str(error)
    assert "127.0.0.1:" in str(error) or "no dump" in str(error)


@pytest.mark.parametrize(
    "hello", [b"$-1\r\n", b":3\r\n", b"*-1\r\n", b"*1\r\n*1\r\n+x\r\n", b"?\r\n", b"$99999999\r\n"]
)
def test_odd_greetings_are_survived_or_told(hello):
    try:
        assert received(Script(hello=hello, after_psync=[REPLICATION + BY_LENGTH + DUMP])) == DUMP
    except PhoenixError as error:
        assert "does not speak as Redis does" in str(error)  # noqa: PT017 - one of two good ends


def test_an_answer_that_does_not_end_fills_no_memory():
    piece = b"$1000000\r\n" + b"x" * 1_000_000 + b"\r\n"
    error = refused(Script(hello=b"*1000000000\r\n" + piece * 12))
    assert "does not speak as Redis does" in error.message


@pytest.mark.parametrize("moment", ["9" * 16, "9" * 5000, "\u0663"])
def test_a_moment_that_is_none_is_no_moment(moment):
    said = moment.encode()
    text = b"\x80" + len(said).to_bytes(4, "big") + said
    dump = b"REDIS0011\xfa\x05ctime" + text + b"\xfa\x08used-mem" + text + b"\xff12345678"
    with (
        scripted(Script(after_psync=[REPLICATION + BY_MARK + dump + MARK])) as address,
        replicate(address) as stream,
    ):
        assert stream.header.consistency_point is None
        assert stream.header.used_memory in (0, 9999999999999999)


def test_a_sentinel_has_no_data():
    hello = b"*2\r\n$4\r\nmode\r\n$8\r\nsentinel\r\n"
    assert "is a Sentinel" in refused(Script(hello=hello)).message


def test_a_password_is_never_repeated():
    script = Script(auth=b"-WRONGPASS the password tell-nobody is wrong\r\n")
    with scripted(script) as address:
        login = RedisAddress(port=address.port, username="backup", password="tell-nobody")
        with pytest.raises(Terminal) as caught, replicate(login):
            pass
    assert "tell-nobody" not in str(caught.value)
    assert "tell-nobody" not in repr(login)
    assert script.heard == [["AUTH", "backup", "tell-nobody"]]

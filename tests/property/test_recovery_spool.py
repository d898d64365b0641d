"""What goes into a spool comes out, however small it is, however slow the store, however full the disk."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phoenix_orch.kernel.errors import Retryable, Terminal
from phoenix_orch.recovery.errors import Stopped
from phoenix_orch.recovery.spool import spooled

REAL = os.pwrite


class Sink:
    def __init__(self, fail_at: int = 1 << 60) -> None:
        self.got = bytearray()
        self.fail_at = fail_at
        self.open = threading.Event()
        self.open.set()

    def write(self, data: bytes, /) -> int:
        assert self.open.wait(30)
        if len(self.got) + len(data) > self.fail_at:
            raise Retryable("the store is away", remedy="wait")
        self.got += data
        return len(data)


pieces = st.lists(st.binary(max_size=300), max_size=30)


@given(pieces, st.integers(1, 500), st.none() | st.integers(0, 600))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_goes_in_comes_out(tmp_path: Path, parts: list[bytes], most: int, room: int | None) -> None:
    """`room`: bytes that the disk has."""
    sink, warned = Sink(), []

    def pwrite(file: int, data: memoryview, at: int) -> int:
        if room is not None and at + len(data) > room:
            if at >= room:
                raise OSError(errno.ENOSPC, "No space left on device")
            data = data[: room - at]
        return REAL(file, data, at)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with spooled(sink, tmp_path, most, warn=warned.append) as spool:
            for part in parts:
                assert spool.write(part) == len(part)
    whole = b"".join(parts)
    assert bytes(sink.got) == whole
    assert len(warned) == (room is not None and room < min(most, len(whole)))
    assert list(tmp_path.iterdir()) == []


def test_a_slow_store_makes_nobody_wait_until_the_spool_is_full(tmp_path: Path) -> None:
    sink = Sink()
    sink.open.clear()
    with spooled(sink, tmp_path, 1_000_000) as spool:
        for _ in range(10):
            spool.write(bytes(100_000))
        assert not sink.got
        assert list(tmp_path.iterdir()) == []
        sink.open.set()
    assert len(sink.got) == 1_000_000


@given(st.integers(0, 5000), st.integers(1, 3000))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_error_of_the_store_is_what_is_raised(tmp_path: Path, fail_at: int, most: int) -> None:
    with (  # noqa: PT012 - which write tells it is not said
        pytest.raises(Retryable, match="the store is away"),
        spooled(Sink(fail_at), tmp_path, most) as spool,
    ):
        for _ in range(60):
            spool.write(bytes(100))


def test_nobody_waits_for_a_store_any_longer_than_is_wanted(tmp_path: Path) -> None:
    sink, stop = Sink(), threading.Event()
    sink.open.clear()
    with pytest.raises(Stopped), spooled(sink, tmp_path, 1000, stop=stop.is_set) as spool:  # noqa: PT012
        spool.write(bytes(100))
        stop.set()
        threading.Timer(0.2, sink.open.set).start()  # the call of the store that runs is waited for
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("free", [0, 1, 500])
def test_half_of_what_is_free_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    sizes, sink, warned = [], Sink(), []
    monkeypatch.setattr(
        os, "pwrite", lambda file, data, at: sizes.append(at + len(data)) or REAL(file, data, at)
    )
    with spooled(sink, tmp_path, 1000, warn=warned.append) as spool:
        for _ in range(20):
            spool.write(bytes(100))
    assert len(sink.got) == 2000
    assert max(sizes, default=0) <= free // 2
    assert len(warned) == 1


def test_a_disk_without_room_for_a_file_is_gone_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    sink, warned = Sink(), []
    with spooled(sink, tmp_path, 1000, warn=warned.append) as spool:
        spool.write(b"content")
    assert (bytes(sink.got), len(warned)) == (b"content", 1)


def test_the_error_of_the_block_is_what_is_raised(tmp_path: Path) -> None:
    sink = Sink()
    with pytest.raises(ZeroDivisionError), spooled(sink, tmp_path, 1000) as spool:  # noqa: PT012
        spool.write(bytes(100))
        raise ZeroDivisionError


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Terminal, match="cannot be spooled"), spooled(Sink(), tmp_path / "file" / "x", 10):
        pass


def test_a_disk_that_fails_otherwise_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: int, data: memoryview, at: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(Retryable, match="cannot be written"), spooled(Sink(), tmp_path, 10) as spool:
        spool.write(b"x")

"""What is large is sealed and opened by a process of its own: the same answers as by a thread, and what
becomes of it when either end, or the process, is gone."""

from __future__ import annotations

import io
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.recovery import age_child, keys, pipeline
from phoenix_orch.recovery.errors import Corrupted, Stopped, WrongKey
from phoenix_orch.recovery.pipeline import Sealed, seal, unseal

ONLINE, OFFLINE, STRANGER = keys.generate(), keys.generate(), keys.generate()
RECIPIENTS = [keys.Recipient(ONLINE.public), keys.Recipient(OFFLINE.public, offline=True)]
NOISE = random.Random(3).randbytes(9 * 2**20)


@pytest.fixture(scope="module")
def sealed() -> tuple[bytes, Sealed]:
    sink = io.BytesIO()
    told = seal(io.BytesIO(NOISE), sink, RECIPIENTS)
    return sink.getvalue(), told


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before, files = set(psutil.Process().children()), psutil.Process().num_fds()
    yield
    assert set(psutil.Process().children()) <= before
    assert psutil.Process().num_fds() <= files


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if age_child.__name__ in one.cmdline()]


class Watched:
    """A source or a sink that does something at byte `k`."""

    def __init__(self, k: int, act, data: bytes = b"") -> None:  # type: ignore[no-untyped-def]
        self.left, self.act, self.file, self.written = k, act, io.BytesIO(data), 0

    def read(self, size: int = -1, /) -> bytes:
        return self._pass(self.file.read(size))

    def write(self, data: bytes, /) -> int:
        self.written += len(self._pass(data))
        return len(data)

    def _pass(self, data: bytes) -> bytes:
        before, self.left = self.left, self.left - len(data)
        if before >= 0 > self.left:
            self.act()
        return data


def fails() -> None:
    raise Retryable("the line is down", remedy="wait")


def killed() -> None:
    (child,) = children()
    child.send_signal(signal.SIGKILL)


def test_it_is_a_process_and_both_keys_open_it(sealed: tuple[bytes, Sealed]) -> None:
    stored, told = sealed
    assert told.raw_bytes == len(NOISE)
    assert told.stored_bytes == len(stored)
    seen: list[int] = []
    for key in (ONLINE, OFFLINE):
        sink = Watched(2**20, lambda: seen.append(len(children())))
        assert unseal(io.BytesIO(stored), sink, [STRANGER, key], told) == told
        assert sink.written == len(NOISE)
    assert seen == [1, 1]


def test_no_key_is_shown_to_others(sealed: tuple[bytes, Sealed]) -> None:
    seen: list[bytes] = []

    def look() -> None:
        (child,) = children()
        seen.extend(Path(f"/proc/{child.pid}/{name}").read_bytes() for name in ("cmdline", "environ"))

    unseal(io.BytesIO(sealed[0]), Watched(2**20, look), [ONLINE], None)
    assert len(seen) == 2
    assert not any(b"AGE-SECRET-KEY" in one for one in seen)


@pytest.mark.parametrize("position", [0, 30, 100, 2**20, 5 * 2**20, -1])
@pytest.mark.parametrize("known", [True, False])
def test_a_changed_byte_is_refused(sealed: tuple[bytes, Sealed], position: int, known: bool) -> None:
    damaged = bytearray(sealed[0])
    damaged[position] ^= 4
    with pytest.raises(Corrupted if known else (Corrupted, WrongKey)):
        unseal(io.BytesIO(damaged), io.BytesIO(), [ONLINE], sealed[1] if known else None)


@pytest.mark.parametrize("length", [5 * 2**20, 2**23, -1])
def test_a_cut_is_refused(sealed: tuple[bytes, Sealed], length: int) -> None:
    for expected in (sealed[1], None):
        with pytest.raises(Corrupted, match="decryption fails within"):
            unseal(io.BytesIO(sealed[0][:length]), io.BytesIO(), [ONLINE], expected)


def test_what_is_appended_is_refused(sealed: tuple[bytes, Sealed]) -> None:
    for more in (b"x", NOISE):
        with pytest.raises(Corrupted):
            unseal(io.BytesIO(sealed[0] + more), io.BytesIO(), [ONLINE], sealed[1])


def test_a_wrong_key_says_so(sealed: tuple[bytes, Sealed]) -> None:
    for expected in (sealed[1], None):
        with pytest.raises(WrongKey, match="none of the private keys"):
            unseal(io.BytesIO(sealed[0]), io.BytesIO(), [STRANGER], expected)


def test_a_changed_header_is_told_from_a_wrong_key(sealed: tuple[bytes, Sealed]) -> None:
    other = keys.generate()
    sink = io.BytesIO()
    seal(io.BytesIO(NOISE), sink, [keys.Recipient(other.public)])
    with pytest.raises(Corrupted, match="its header was changed"):
        unseal(io.BytesIO(sink.getvalue()), io.BytesIO(), [ONLINE], sealed[1])


@pytest.mark.parametrize("k", [0, 2**20, 6 * 2**20])
def test_the_error_of_either_end_is_what_is_raised(sealed: tuple[bytes, Sealed], k: int) -> None:
    stored, told = sealed
    with pytest.raises(Retryable, match="the line is down"):
        seal(Watched(k, fails, NOISE), io.BytesIO(), RECIPIENTS)
    with pytest.raises(Retryable, match="the line is down"):
        seal(io.BytesIO(NOISE), Watched(k, fails), RECIPIENTS)
    with pytest.raises(Retryable, match="the line is down"):
        unseal(Watched(k, fails, stored), io.BytesIO(), [ONLINE], told)
    with pytest.raises(Retryable, match="the line is down"):
        unseal(io.BytesIO(stored), Watched(k, fails), [ONLINE], told)


@pytest.mark.parametrize("k", [0, 2**20, 6 * 2**20])
def test_a_killed_process_leaves_nothing_half(sealed: tuple[bytes, Sealed], k: int) -> None:
    with pytest.raises(Retryable, match="has ended by signal 9"):
        seal(io.BytesIO(NOISE), Watched(k, killed), RECIPIENTS)
    with pytest.raises(Retryable, match="has ended by signal 9"):
        unseal(io.BytesIO(sealed[0]), Watched(k, killed), [ONLINE], sealed[1])


def test_no_process_to_be_had_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(Retryable, match="no process can be started"):
        seal(io.BytesIO(NOISE), io.BytesIO(), RECIPIENTS)


def test_it_stops_when_it_is_told_to(sealed: tuple[bytes, Sealed]) -> None:
    for act in (
        lambda stop: seal(io.BytesIO(NOISE), io.BytesIO(), RECIPIENTS, stop=stop),
        lambda stop: unseal(io.BytesIO(sealed[0]), io.BytesIO(), [ONLINE], sealed[1], stop=stop),
    ):
        asked = iter([False] * 7 + [True])
        with pytest.raises(Stopped):
            act(lambda asked=asked: next(asked))  # type: ignore[misc]


def test_what_is_small_needs_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    sink = io.BytesIO()
    told = seal(io.BytesIO(NOISE[: pipeline.SMALL // 2]), sink, RECIPIENTS)
    assert unseal(io.BytesIO(sink.getvalue()), io.BytesIO(), [ONLINE], told) == told


KILLED = """
import io, os, signal
import psutil
from phoenix_orch.recovery import age_child, keys
from phoenix_orch.recovery.pipeline import seal

class Sink:
    def write(self, data, /):
        mine = psutil.Process().children()
        print(next(one.pid for one in mine if age_child.__name__ in one.cmdline()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

print("begun", flush=True)
seal(io.BytesIO(os.urandom(2**24)), Sink(), [keys.Recipient(keys.generate().public)])
"""


def test_it_ends_with_who_started_it() -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    child = int(done.stdout.split()[1])
    for _ in range(600):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    raise AssertionError("it is still there")

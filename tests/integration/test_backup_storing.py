"""A copy on its way: its source is let go of early, its parts are large enough, and nothing stays behind."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.backup_stage import IDENTITY, OFFLINE, Stage, stage
from tests.recovery_outcomes import seen

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.orchestrator import backups as composition
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.errors import Stopped
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.manifest import Trigger, TriggerKind
from phoenix_orch.recovery.object_store import LARGEST_PART, MOST_PARTS, PART, part_size
from phoenix_orch.recovery.objects import Writer
from phoenix_orch.recovery.publish import Step, Told
from phoenix_orch.recovery.spec import BackupSpec
from phoenix_orch.recovery.storage import Storage
from phoenix_orch.recovery.storing import Spooling, expected
from phoenix_orch.testing.fake_backup import FakeBackupSource
from phoenix_orch.testing.faulty_objects import FaultyObjects

ROOT = Path(__file__).resolve().parents[2]
CONTENT = random.Random(11).randbytes(3 * 2**20)
MORE = 8 * 2**20
"""Bytes of a spool that holds all of it."""
BACKUP = "A backup"


class Slow(FaultyObjects):
    """Takes nothing of a stream before it is let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(FolderStore(folder))
        self.let = threading.Event()
        self.ready: Callable[[], bool] | None = None
        """What is asked in place of `let`."""
        self.estimates: list[int] = []

    @contextmanager
    def writer(self, key: str, *, estimate: int = 0) -> Iterator[Writer]:
        self.estimates.append(estimate)
        with super().writer(key, estimate=estimate) as sink:
            yield _Waiting(sink, self)


class _Waiting:
    def __init__(self, behind: Writer, store: Slow) -> None:
        self._behind, self._store = behind, store

    def write(self, data: bytes, /) -> int:
        if self._store.ready is None:
            assert self._store.let.wait(30)
        else:
            give_up = time.monotonic() + 60
            while not self._store.ready():
                assert time.monotonic() < give_up
                time.sleep(0.01)
        return self._behind.write(data)


@pytest.fixture
def slow(tmp_path: Path) -> Slow:
    return Slow(tmp_path / "bucket")


def at(slow: Slow, tmp_path: Path, most: int = MORE) -> Stage:
    return Stage(tmp_path / "bucket", slow, spooling=Spooling(tmp_path / "spool", most))


class Letting(FakeBackupSource):
    """Lets the store begin only once it was let go of itself."""

    let: threading.Event

    @contextmanager
    def capture(self) -> Iterator[object]:  # type: ignore[override]
        with super().capture() as capture:
            yield capture
        self.let.set()


def letting(slow: Slow, content: bytes = CONTENT) -> Letting:
    source = Letting(content)
    source.let = slow.let
    return source


def test_a_source_is_let_go_of_before_a_slow_store_has_a_byte(slow: Slow, tmp_path: Path) -> None:
    """The store begins when the source has ended: without a spool neither would come first."""
    here, source = at(slow, tmp_path), letting(slow)
    done = here.publish(source)
    assert done is not None
    assert source.open == 0
    assert done.look.passed
    assert here.view().backups[0].good
    assert list((tmp_path / "spool").iterdir()) == []
    seen(
        BACKUP,
        "the storage is slow",
        "from its first byte",
        leaves="the backup, whole",
        then="the source was let go of before",
    )


def test_a_copy_larger_than_the_spool_waits_for_the_store(slow: Slow, tmp_path: Path) -> None:
    here, source, told = at(slow, tmp_path, most=2**20), FakeBackupSource(CONTENT), list[Step]()
    threading.Timer(0.3, slow.let.set).start()
    done = here.publish(source, told=Told(step=told.append))
    assert done is not None
    assert done.look.passed
    assert Step.RELEASED in told


def test_a_disk_that_is_full_is_told_of_and_the_copy_goes_straight_on(
    slow: Slow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    slow.let.set()
    warned: list[str] = []
    done = at(slow, tmp_path).publish(FakeBackupSource(CONTENT), told=Told(warn=warned.append))
    assert done is not None
    assert done.look.passed
    assert len(warned) == 1
    assert "is full" in warned[0]
    seen(
        BACKUP,
        "the disk of the spool is full",
        "its first byte",
        leaves="the backup, whole",
        then="it warns, and the source waits for the storage",
    )


_FULL = """
import hashlib, random, resource, sys, threading
from pathlib import Path
from phoenix_orch.recovery.spool import spooled

content = random.Random(11).randbytes(3 * 2**20)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))  # as a disk that is full from there on

class Behind:
    def __init__(self):
        self.seen, self.let = hashlib.sha256(), threading.Event()
    def write(self, data):
        assert self.let.wait(30)
        self.seen.update(data)
        return len(data)

behind, warned = Behind(), []

def warn(text):
    warned.append(text)
    behind.let.set()

with spooled(behind, Path(sys.argv[1]), 8 * 2**20, warn=warn) as spool:
    for at in range(0, len(content), 300_000):
        spool.write(content[at : at + 300_000])
assert behind.seen.digest() == hashlib.sha256(content).digest()
print(*warned)
"""


def test_a_disk_that_fills_up_in_the_middle_makes_the_spool_smaller(tmp_path: Path) -> None:
    """The system refuses to write on; the store begins only then."""
    command = [sys.executable, "-c", _FULL, str(tmp_path / "spool")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["the disk of the spool is full: it holds 1,048,576 bytes"]
    assert list((tmp_path / "spool").iterdir()) == []


def test_an_application_is_woken_before_a_slow_store_has_a_byte_of_its_folder(
    slow: Slow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Phoenix puts it together: the store takes nothing before the application was woken."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "orders").write_bytes(CONTENT)
    awake = tmp_path / "awake"
    spec = BackupSpec.model_validate(
        {
            "recipients": [
                {"name": "here", "key": IDENTITY.public},
                {"name": "safe", "key": OFFLINE.public, "offline": True},
            ],
            "volumes": {
                "shop": {
                    "path": str(tmp_path / "shop"),
                    "copyBy": "direct",
                    "quiesce": {"after": [{"command": ["touch", str(awake)]}]},
                }
            },
        }
    )
    monkeypatch.setattr(
        composition, "opened", lambda *_: Storage(slow, slow.behind, lambda _key, _now: None, "it")
    )
    slow.ready = awake.exists
    backups = composition.Backups(spec, Layout(tmp_path / "data"))
    done = backups.run("volume/shop", Trigger(kind=TriggerKind.MANUAL))
    assert done is not None
    assert done.look.passed


def left(tmp_path: Path) -> list[Path]:
    """Data of a copy, wherever it may lie."""
    return [*tmp_path.glob("spool/*"), *tmp_path.rglob("data.*")]


def test_a_store_that_fails_behind_the_source_ends_it(slow: Slow, tmp_path: Path) -> None:
    slow.fail_writes_at = 2**20
    here, source = at(slow, tmp_path), letting(slow)
    with pytest.raises(Retryable, match="the storage failed"):
        here.publish(source)
    assert (source.open, here.view().backups, left(tmp_path)) == (0, (), [])
    slow.fail_writes_at = None
    assert here.publish(source) is not None
    seen(
        BACKUP,
        "the storage fails",
        "its second MiB, after the source was let go of",
        leaves="nothing of it, in the spool neither",
        then="the next run publishes it",
    )


def test_a_source_that_fails_leaves_nothing_in_spool_and_store(slow: Slow, tmp_path: Path) -> None:
    source = FakeBackupSource(CONTENT, fails_at=2**21, failure=Retryable("the server is gone"))
    threading.Timer(0.3, slow.let.set).start()
    here = at(slow, tmp_path)
    with pytest.raises(Retryable, match="the server is gone"):
        here.publish(source)
    assert (source.open, here.view().backups, left(tmp_path)) == (0, (), [])


def test_a_run_that_is_stopped_waits_for_the_store_no_more(slow: Slow, tmp_path: Path) -> None:
    stop = threading.Event()

    class Stopping(FakeBackupSource):
        @contextmanager
        def capture(self) -> Iterator[object]:  # type: ignore[override]
            with super().capture() as capture:
                yield capture
            stop.set()
            threading.Timer(0.3, slow.let.set).start()

    here = at(slow, tmp_path)
    with pytest.raises(Stopped):
        here.publish(Stopping(CONTENT), told=Told(stop=stop.is_set))
    assert (here.view().backups, left(tmp_path)) == ((), [])


_CHILD = """
import sys
from pathlib import Path
from tests.integration.test_backup_storing import CONTENT, Slow, at
from phoenix_orch.testing.fake_backup import FakeBackupSource
folder = Path(sys.argv[1])

class Telling(FakeBackupSource):
    def capture(self):
        from contextlib import contextmanager
        @contextmanager
        def told():
            with FakeBackupSource.capture(self) as capture:
                yield capture
            print("let go of", flush=True)
        return told()

at(Slow(folder / "bucket"), folder).publish(Telling(CONTENT))
"""


def test_a_kill_while_the_store_is_behind_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _CHILD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "let go of\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert left(tmp_path) == []
    here = stage(tmp_path / "bucket")
    assert here.view().backups == ()
    assert here.publish(FakeBackupSource(CONTENT)) is not None


def test_a_store_is_told_how_much_comes(slow: Slow, tmp_path: Path) -> None:
    slow.let.set()
    here = at(slow, tmp_path)
    first = here.publish(FakeBackupSource(CONTENT))
    assert first is not None
    here.publish(FakeBackupSource(CONTENT))
    here.publish(FakeBackupSource(CONTENT, estimate=10**12))
    stored = first.manifest.stream.stored_bytes
    assert slow.estimates == [0, stored * 2, expected(10**12, 0)]


@given(st.integers(0, 5 * 10**13))
def test_half_as_much_again_as_was_estimated_fits_into_the_parts_of_s3(estimate: int) -> None:
    size = part_size(estimate)
    assert PART <= size <= LARGEST_PART
    assert size * MOST_PARTS >= min(estimate * 3 // 2, LARGEST_PART * MOST_PARTS)

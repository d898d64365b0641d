"""A folder is copied at rest, checked, and what changed meanwhile is said."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from phoenix_orch.kernel.errors import BadState, Invalid, Terminal
from phoenix_orch.recovery import consistency, hooks
from phoenix_orch.recovery.consistency import checked, faults
from phoenix_orch.recovery.consistency_spec import CheckKind, FileCheck
from phoenix_orch.recovery.file_manifest import MANIFEST, parsed
from phoenix_orch.recovery.hook_spec import Hook, Quiesce
from phoenix_orch.recovery.sources import file_content
from phoenix_orch.recovery.sources.archive import Archive
from phoenix_orch.recovery.sources.files import FilesSource
from phoenix_orch.recovery.sources.volume_spec import Copy, VolumeSpec

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir()
    (made / "a.txt").write_text("a")
    return made


def source(folder: Path, spec: VolumeSpec) -> FilesSource:
    return FilesSource("volume/shop", folder, spec, notes=folder.parent / "notes", now=lambda: NOW)


def direct(**more: object) -> VolumeSpec:
    return VolumeSpec.model_validate({"path": "state", "copy_by": Copy.DIRECT, **more})


def test_facts_come_after_the_end(folder: Path) -> None:
    with source(folder, direct()).capture() as copy:
        copy.read(10)
        with pytest.raises(BadState):
            copy.facts()
        while copy.read(7):
            pass
        facts = copy.facts()
    assert facts.consistency_point == NOW
    assert facts.content["files"] == 1
    assert facts.content["bytes"] == 1
    assert facts.content["fuzzy"] == 0
    assert facts.measures == ("files", "bytes")
    assert facts.source["copiedBy"] == "direct"


def test_what_is_no_file_is_left_out_and_said(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        (folder / ".phoenix-copy-left").mkdir()
        archive = Archive(folder)
        content = b"".join(archive)
    assert archive.tree.left_out == {"pipe": 1, "socket": 1}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert tar.getnames() == ["files", "files/a.txt", MANIFEST]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be read"):
        list(Archive(tmp_path / "none"))


def test_a_file_that_cannot_be_read_ends_the_backup(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refused(path: object, *more: Any, **named: Any) -> int:
        if str(path).endswith("a.txt"):
            raise PermissionError(13, "Permission denied")
        return real(path, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(Terminal, match=r"a\.txt cannot be read: Permission denied"):
        list(Archive(folder))


def test_a_file_that_goes_meanwhile_is_said(folder: Path) -> None:
    for number in range(3):
        (folder / f"b{number}").write_text("b")
    archive = Archive(folder)
    chunks = iter(archive)
    next(chunks), next(chunks)
    (folder / "b1").unlink()
    list(chunks)
    assert archive.tree.left_out == {"vanished": 1}
    assert archive.tally.files == 3


@pytest.mark.parametrize("size", [100, 3 * file_content.CHUNK])
@pytest.mark.parametrize("changes", [1, 3, 4])
def test_a_file_that_is_written_is_read_again_and_marked_at_last(
    folder: Path, monkeypatch: pytest.MonkeyPatch, size: int, changes: int
) -> None:
    """Written `changes` times while it is read."""
    file = folder / "a.txt"
    file.write_bytes(b"0" * size)
    left = iter(range(1, changes + 1))
    real = file_content._exactly

    def reads(descriptor: int, offset: int, length: int) -> bytes:
        content = real(descriptor, offset, length)
        number = next(left, 0) if offset == 0 else 0
        if number:
            file.write_bytes(str(number).encode() * size)
        return content

    monkeypatch.setattr(file_content, "_exactly", reads)
    archive = Archive(folder)
    content = b"".join(archive)
    assert archive.tally.fuzzy == (changes > file_content.RETRIES)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        last = tar.extractfile("files/a.txt")
        manifest = tar.extractfile(MANIFEST)
        assert last is not None
        assert manifest is not None
        entry = parsed(manifest.read().splitlines()[1])
        assert entry.fuzzy == (changes > file_content.RETRIES)
        if not entry.fuzzy:
            assert last.read() == str(changes).encode() * size
    assert archive.tally.fuzzy_first == (("a.txt",) if entry.fuzzy else ())


def test_a_file_that_shrinks_leaves_a_whole_archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "a.txt"
    file.write_bytes(b"0" * 3 * file_content.CHUNK)
    real = os.pread

    def cut(descriptor: int, length: int, offset: int) -> bytes:
        os.truncate(file, 10)
        return real(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", cut)
    content = b"".join(Archive(folder))
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        last = tar.extractfile("files/a.txt")
        assert last is not None
        assert last.read() == b"0" * 10


def test_a_sparse_file_takes_its_data_only(folder: Path) -> None:
    with (folder / "sparse").open("wb") as file:
        file.seek(64 * 2**20)
        file.write(b"end")
    assert len(b"".join(Archive(folder))) < 1_000_000


def test_many_files_take_no_more_memory_than_few(tmp_path: Path) -> None:
    """Each measured in a process of its own, by the kernel."""
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from phoenix_orch.recovery.sources.archive import Archive\n"
        "archive = Archive(Path(sys.argv[1])); [None for _ in archive]\n"
        "print(archive.tally.files, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = []
    for count in (1, 100):
        top = tmp_path / str(count)
        for number in range(count):
            folder = top / f"{number:03}"
            folder.mkdir(parents=True)
            for file in range(50):
                (folder / f"{file:04}").write_bytes(b"x")
        done = subprocess.run((sys.executable, "-c", code, top), check=True, capture_output=True, text=True)
        files, peak = map(int, done.stdout.split())
        assert files == count * 50
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 4096, peaks


# -- hooks -----------------------------------------------------------------------------------------


def told(to: Path, word: str) -> Hook:
    return Hook(command=("sh", "-c", f"echo {word} >> {to}"))


def test_an_application_rests_while_its_files_are_read(folder: Path) -> None:
    log = folder.parent / "log"
    spec = direct(quiesce=Quiesce(before=(told(log, "rest"),), after=(told(log, "wake"),)))
    with source(folder, spec).capture() as copy:
        copy.read()
        assert log.read_text() == "rest\n"
        facts = copy.facts()
        assert log.read_text() == "rest\nwake\n"
    assert log.read_text() == "rest\nwake\n"
    assert [(one["when"], one["fault"]) for one in facts.hooks] == [("before", ""), ("after", "")]
    assert not list((folder.parent / "notes").glob("*.json"))


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        (Hook(command=("false",)), "exit status 1"),
        (Hook(command=("no-such-program",)), "cannot be started"),
        (Hook(command=("sleep", "60"), timeout=timedelta(seconds=0.2)), r"not done in 0\.2 s"),
        (Hook.model_validate({"url": "http://127.0.0.1:9/rest"}), "no answer: ConnectError"),
    ],
)
def test_a_hook_that_fails_ends_the_backup_and_the_application_is_woken(
    folder: Path, hook: Hook, said: str
) -> None:
    log = folder.parent / "log"
    spec = direct(quiesce=Quiesce(before=(hook,), after=(told(log, "wake"),)))
    with pytest.raises(Terminal, match=said), source(folder, spec).capture():
        pytest.fail("it was not at rest")
    assert log.read_text() == "wake\n"


def test_an_error_while_reading_wakes_it(folder: Path) -> None:
    log = folder.parent / "log"
    spec = direct(quiesce=Quiesce(after=(told(log, "wake"),)))
    with pytest.raises(ZeroDivisionError), source(folder, spec).capture():
        raise ZeroDivisionError
    assert log.read_text() == "wake\n"


def test_a_failed_waking_is_said_and_done_again(folder: Path) -> None:
    log, door = folder.parent / "log", folder.parent / "door"
    wake = Hook(command=("sh", "-c", f"test -e {door} && echo wake >> {log}"))
    spec = direct(quiesce=Quiesce(after=(wake,)))
    with pytest.raises(Terminal, match="may still be at rest"), source(folder, spec).capture() as copy:
        copy.read()
    door.touch()
    [result] = hooks.wake_left(folder.parent / "notes")
    assert result.fault == ""
    assert log.read_text() == "wake\n"
    assert hooks.wake_left(folder.parent / "notes") == []


def test_killed_while_it_rests_it_is_woken_at_the_next_start(folder: Path) -> None:
    log = folder.parent / "log"
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from phoenix_orch.recovery.hooks import at_rest\n"
        "from phoenix_orch.recovery.hook_spec import Quiesce\n"
        "with at_rest(Quiesce.model_validate_json(sys.argv[1]), Path(sys.argv[2])):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    quiesce = Quiesce(before=(told(log, "rest"),), after=(told(log, "wake"),))
    note = folder.parent / "notes" / "volume.shop.json"
    words = (sys.executable, "-c", code, quiesce.model_dump_json(), note)
    assert subprocess.run(words, check=False).returncode == -9
    assert log.read_text() == "rest\n"
    hooks.wake_left(note.parent)
    assert log.read_text() == "rest\nwake\n"
    assert not note.exists()


def test_two_backups_of_one_application(folder: Path) -> None:
    spec = direct(quiesce=Quiesce(after=(Hook(command=("true",)),)))
    with (
        source(folder, spec).capture(),
        pytest.raises(BadState, match="at rest for another backup"),
        source(folder, spec).capture(),
    ):
        pytest.fail("both")


@pytest.fixture
def application() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            if "talks" in self.path:
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    while True:  # until nobody listens
                        self.wfile.write(bytes(2**20))
            self.send_response(503 if "busy" in self.path else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_an_application_is_called(folder: Path, application: tuple[str, list[str]]) -> None:
    url, asked = application
    good = Quiesce.model_validate({"before": [{"url": f"{url}/rest"}], "after": [{"url": f"{url}/wake"}]})
    with source(folder, direct(quiesce=good)).capture() as copy:
        copy.read()
    assert asked == ["/rest", "/wake"]
    bad = Quiesce.model_validate({"before": [{"url": f"{url}/busy?token=hunter2"}]})
    with pytest.raises(Terminal, match="status 503") as caught, source(folder, direct(quiesce=bad)).capture():
        pytest.fail("it was not at rest")
    assert "hunter2" not in str(caught.value)


def test_an_application_that_never_ends_talking_holds_nothing_up(
    folder: Path, application: tuple[str, list[str]]
) -> None:
    talks = Quiesce.model_validate({"before": [{"url": f"{application[0]}/talks"}]})
    with source(folder, direct(quiesce=talks)).capture() as copy:
        assert copy.read()


# -- consistency -----------------------------------------------------------------------------------


def database(path: Path, rows: int) -> sqlite3.Connection:
    made = sqlite3.connect(path)
    made.execute("PRAGMA journal_mode=WAL")
    made.execute("PRAGMA wal_autocheckpoint=0")
    made.execute("CREATE TABLE IF NOT EXISTS t (x TEXT)")
    made.executemany("INSERT INTO t VALUES (?)", [(f"{n}" * 100,) for n in range(rows)])
    made.commit()
    return made


def one(kind: CheckKind, files: str, **more: object) -> FileCheck:
    return FileCheck.model_validate({"kind": kind, "files": files, **more})


def test_sqlite_with_its_log(folder: Path) -> None:
    open_one = database(folder / "a.db", 500)  # all of it is in the log
    before = sorted(folder.iterdir())
    check = one(CheckKind.SQLITE, "*.db")
    assert faults(checked(folder, [check])) == ""
    assert sorted(folder.iterdir()) == before
    open_one.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    open_one.close()
    content = bytearray((folder / "a.db").read_bytes())
    content[8192:9000] = b"\xff" * 808
    (folder / "a.db").write_bytes(content)
    assert faults(checked(folder, [check])).startswith("a.db: ")
    (folder / "a.db").write_bytes(b"no database at all" * 100)
    assert "not a database" in faults(checked(folder, [check]))


def test_json_of_both_kinds(folder: Path) -> None:
    (folder / "a.json").write_text('{"a": 1}')
    (folder / "b.jsonl").write_text('{"a": 1}\n{"b": 2}\n{"c": ')
    both = [one(CheckKind.JSON, "*.json"), one(CheckKind.JSON_LINES, "*.jsonl")]
    assert faults(checked(folder, both)) == ""
    (folder / "a.json").write_text('{"a": secret')
    (folder / "b.jsonl").write_text('{"a": 1}\n{"b": \n{"c": 3}\n')
    said = faults(checked(folder, both))
    assert said == "a.json: no JSON from character 6; b.jsonl: line 2: no JSON from character 7"


def test_a_line_without_an_end_is_not_read_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consistency, "LARGEST_JSON", 1000)
    (folder / "b.jsonl").write_text('{"a": 1}\n"' + "x" * 5000)
    said = faults(checked(folder, [one(CheckKind.JSON_LINES, "*.jsonl")]))
    assert said == "b.jsonl: line 2 has more than 1,000 bytes"


def test_a_check_of_nothing_is_not_passed(folder: Path) -> None:
    assert "0 files match" in faults(checked(folder, [one(CheckKind.JSON, "*.json")]))


def test_an_append_only_file(folder: Path) -> None:
    good = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"
    (folder / "a.aof").write_bytes(good)
    check = one(CheckKind.AOF, "*.aof")
    assert faults(checked(folder, [check])) == ""
    (folder / "empty.aof").touch()
    (folder / "a.manifest").write_text("file a.aof seq 1 type b\nfile empty.aof seq 2 type i\n")
    whole = one(CheckKind.AOF, "*.manifest")
    assert faults(checked(folder, [whole])) == ""
    (folder / "empty.aof").unlink()
    assert "empty.aof is in the manifest, and not there" in faults(checked(folder, [whole]))
    (folder / "a.aof").write_bytes(good[:-4])
    assert "a.manifest: a.aof: " in faults(checked(folder, [whole]))
    assert "exit status 1" in faults(checked(folder, [check]))


def test_the_applications_own_command(folder: Path) -> None:
    say = FileCheck(
        kind=CheckKind.COMMAND, command=("sh", "-c", 'echo "{\\"rows\\": 5}"; test -e {folder}/a.txt')
    )
    [found] = checked(folder, [say])
    assert (found.fault, found.printed) == ("", {"rows": 5})
    (folder / "a.txt").unlink()
    assert "exit status 1" in faults(checked(folder, [say]))
    slow = FileCheck(kind=CheckKind.COMMAND, command=("sleep", "60"), timeout=timedelta(seconds=0.2))
    assert "not done" in faults(checked(folder, [slow]))


def test_what_is_not_whole_is_not_backed_up(folder: Path) -> None:
    (folder / "a.json").write_text("{")
    log = folder.parent / "log"
    spec = direct(checks=[one(CheckKind.JSON, "*.json")], quiesce=Quiesce(after=(told(log, "wake"),)))
    with pytest.raises(Terminal, match="are not whole"), source(folder, spec).capture():
        pytest.fail("it is not whole")
    assert log.read_text() == "wake\n"


def test_a_file_system_that_cannot_is_said(folder: Path) -> None:
    for way, said in ((Copy.SNAPSHOT, "no btrfs subvolume"),):
        spec = VolumeSpec(path="state", copy_by=way)
        with pytest.raises(Terminal, match=said), source(folder, spec).capture():
            pytest.fail("it cannot")

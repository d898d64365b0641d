"""Logs: rotation that loses nothing, places that never change, text out of anything."""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.workload.log_rotation import cut_front, forget_logs, rotate, segments
from phoenix_orch.workload.logs import LONGEST_LINE, MATCHES, ServiceLogs

REVISION = "0123456789"
NAME = f"shop-{REVISION}-1"
WRITER = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for number in range(int(sys.argv[2])):
    os.write(file, b"line %09d %s\\n" % (number, b"x" * 80))
"""


@pytest.fixture
def logs(tmp_path: Path) -> ServiceLogs:
    path(tmp_path).parent.mkdir(parents=True)
    return ServiceLogs(tmp_path, "shop")


def path(data_dir: Path, name: str = NAME) -> Path:
    return data_dir / "services" / "shop" / "logs" / f"{name}.log"


def texts(logs: ServiceLogs, name: str = NAME, place: int = 0) -> list[str]:
    return [line.text for line in logs.read(name, place)]


def uncut(*_: int) -> bool:
    """A file system that cannot take a piece out of the front."""
    return False


def can_cut(directory: Path) -> bool:
    file = directory / "probe"
    file.write_bytes(b"x" * 100_000)
    with file.open("r+b") as opened:
        return cut_front(opened.fileno(), 4096)


def test_rotation_loses_no_line_of_a_running_writer(tmp_path: Path, logs: ServiceLogs) -> None:
    if not can_cut(tmp_path):
        pytest.skip("this file system cannot take a piece out of the front of a file")
    log, lines = path(tmp_path), 60_000
    with subprocess.Popen([sys.executable, "-c", WRITER, str(log), str(lines)]) as writer:
        rotations = 0
        while writer.poll() is None:
            rotations += rotate(log, 100_000, 10_000)
            time.sleep(0.001)
    assert rotations > 5
    assert texts(logs) == [f"line {n:09d} {'x' * 80}" for n in range(lines)]


@pytest.mark.parametrize("cut", [None, uncut], ids=["cut", "copied"])
def test_places_stay_the_same_across_rotations(tmp_path: Path, logs: ServiceLogs, cut: object) -> None:
    log, places, number = path(tmp_path), [], 0
    with log.open("a") as file:
        for _ in range(10):
            places.append((logs.places()[NAME] if log.exists() else 0, number))
            for _ in range(1000):
                file.write(f"line {number}\n")
                number += 1
            file.flush()
            assert rotate(log, 4096, 100, cut=cut)
            assert log.stat().st_size < 4096
    assert len(segments(log)) == 11
    for place, first in places:
        assert texts(logs, place=place) == [f"line {n}" for n in range(first, number)]


def test_only_so_many_rotated_files_are_kept(tmp_path: Path, logs: ServiceLogs) -> None:
    log = path(tmp_path)
    for _ in range(6):
        with log.open("ab") as file:
            file.write(b"y" * 9000 + b"\n")
        rotate(log, 5000, 3)
    assert len(list(log.parent.iterdir())) == 4
    oldest = segments(log)[0]
    assert oldest.start > 0
    assert next(logs.read(NAME, 0)).after > oldest.start


def test_small_logs_and_no_logs_are_left_alone(tmp_path: Path, logs: ServiceLogs) -> None:
    log = path(tmp_path)
    assert not rotate(log, 100, 3)
    log.write_text("short\n")
    assert not rotate(log, 100, 3)
    assert texts(logs, "shop-nobody-1") == []


def test_rotation_waits_for_readers(tmp_path: Path, logs: ServiceLogs) -> None:
    log = path(tmp_path)
    log.write_bytes(b"z" * 200 + b"\n" + b"line\n" * 4000)
    lines = logs.read(NAME)
    next(lines)
    assert not rotate(log, 100, 3)
    lines.close()
    assert rotate(log, 100, 3)


def test_killed_in_the_middle_it_repeats_lines_and_loses_none(tmp_path: Path, logs: ServiceLogs) -> None:
    log = path(tmp_path)
    log.write_text("".join(f"line {n}\n" for n in range(3000)))

    def killed(*_: int) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rotate(log, 4096, 5, cut=killed)
    assert rotate(log, 4096, 5)
    assert set(texts(logs)) >= {f"line {n}" for n in range(3000)}


def test_logs_of_the_gone_are_kept_for_some_time_only(tmp_path: Path, logs: ServiceLogs) -> None:
    for number in range(5):
        log = path(tmp_path, f"shop-{REVISION}-{number}")
        log.write_text("x\n")
        log.with_name(log.name + ".000000000000").write_text("y\n")
        for file in log.parent.glob(f"{log.name}*"):
            os.utime(file, (number, number))
    forget_logs(path(tmp_path).parent, {f"shop-{REVISION}-0"}, keep=2)
    assert logs.instances() == tuple(f"shop-{REVISION}-{n}" for n in (0, 3, 4))
    assert len(list(path(tmp_path).parent.iterdir())) == 6


def test_tail_gives_the_last_lines_and_then_what_is_new(tmp_path: Path, logs: ServiceLogs) -> None:
    first, second = path(tmp_path), path(tmp_path, f"shop-{REVISION}-2")
    first.write_text("a\nb\nc\nunfinished")
    second.write_text("x\n")
    page = logs.tail(lines=2)
    assert [(line.instance[-1], line.text) for line in page.lines] == [("1", "b"), ("1", "c"), ("2", "x")]
    assert logs.tail(since=page.places).lines == ()
    with first.open("a") as file:
        file.write(" no more\nd\n")
    page = logs.tail(since=page.places)
    assert [line.text for line in page.lines] == ["unfinished no more", "d"]
    assert [line.text for line in logs.tail(f"shop-{REVISION}-2").lines] == ["x"]


def test_scan_finds_bad_lines_of_one_revision_after_a_place(tmp_path: Path, logs: ServiceLogs) -> None:
    path(tmp_path).write_text("panic: old\n")
    since = logs.places(REVISION)
    with path(tmp_path).open("a") as file:
        file.write("fine\npanic: new\n" + "fine again\n" * 3000)
    path(tmp_path, f"shop-{REVISION}-2").write_text("ERROR 7\n")
    path(tmp_path, "shop-abcdefabcd-3").write_text("panic: other revision\n")
    rotate(path(tmp_path), 4096, 3)
    found = logs.scan(REVISION, ["^panic", r"ERROR \d"], since=since)
    assert [line.text for line in found] == ["panic: new", "ERROR 7"]
    assert [line.text for line in logs.scan(REVISION, ["panic"])] == ["panic: old", "panic: new"]
    assert len(logs.scan(REVISION, ["fine"])) == MATCHES


def test_junk_becomes_text(tmp_path: Path, logs: ServiceLogs) -> None:
    path(tmp_path).write_bytes(
        b"\x1b[31mred\x1b[0m\x1b]0;title\x07!\r\n\xff\xfe\x00tab\there\n" + b"q" * 100_000 + b"\nend\n"
    )
    red, junk, long, end = texts(logs)
    assert (red, end) == ("red!", "end")
    assert junk == "\ufffd\ufffd\ufffdtab\there"
    assert long == "q" * LONGEST_LINE


def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="not the name of a service"):
        ServiceLogs(tmp_path, "../etc")


def test_a_reader_is_not_kept_waiting_by_other_readers(tmp_path: Path, logs: ServiceLogs) -> None:
    path(tmp_path).write_text("a\n")
    with path(tmp_path).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert texts(logs) == ["a"]

"""The access log: small files, lines that say who asked, and nothing that waits for a disk."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from phoenix_orch.observability import access_log, metrics
from phoenix_orch.observability.access_log import OLDER_FILES, Access, AccessLog


def access(number: int = 1) -> Access:
    return Access(
        at=datetime(2026, 11, 1, 12, tzinfo=UTC),
        request_id=f"r{number}",
        principal="ann\x1b[31m",
        method="GET",
        route="/api/v1/rollouts/{name}",
        status=200,
        milliseconds=1.23456,
        address="127.0.0.1",
    )


def ids(path: Path) -> list[str]:
    return [json.loads(line)["requestId"] for line in path.read_text("ascii").splitlines()]


def lost() -> float:
    return metrics.REGISTRY.get_sample_value("phoenix_access_log_lost_total") or 0.0


def test_each_request_is_one_line_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "access.jsonl"
    log = AccessLog(path)
    for number in range(100):
        log.add(access(number))
    log.close()
    assert ids(path) == [f"r{number}" for number in range(100)]
    assert path.stat().st_mode & 0o777 == 0o600
    assert "\x1b" not in path.read_text("ascii")
    assert json.loads(path.read_text("ascii").splitlines()[0]) == {
        "at": "2026-11-01T12:00:00.000+00:00",
        "requestId": "r0",
        "principal": "ann\x1b[31m",
        "method": "GET",
        "route": "/api/v1/rollouts/{name}",
        "status": 200,
        "ms": 1.235,
        "address": "127.0.0.1",
    }


def test_files_stay_small_and_few(tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    largest = 3 * len(access(10).line())
    for number in range(10, 40):
        log = AccessLog(path, largest=largest)
        log.add(access(number))
        log.close()
    assert len(list(tmp_path.iterdir())) == OLDER_FILES + 1
    assert all(file.stat().st_size <= largest for file in tmp_path.iterdir())
    assert ids(path) == ["r37", "r38", "r39"]
    assert ids(tmp_path / "access.jsonl.1") == ["r34", "r35", "r36"]


def test_a_slow_disk_delays_nobody_and_what_is_lost_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, before = AccessLog(tmp_path / "access.jsonl", waiting=5), lost()
    writing, go_on, write = threading.Event(), threading.Event(), AccessLog._write

    def slow(self: AccessLog, batch: list[Access]) -> None:
        writing.set()
        assert go_on.wait(60)
        write(self, batch)

    monkeypatch.setattr(access_log.AccessLog, "_write", slow)
    log.add(access(0))
    assert writing.wait(60)
    for number in range(1, 9):
        log.add(access(number))
    assert lost() - before == 3
    go_on.set()
    log.close()
    assert ids(tmp_path / "access.jsonl") == [f"r{number}" for number in range(6)]


def test_a_disk_that_takes_nothing_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    path, before = tmp_path / "logs" / "access.jsonl", lost()
    log = AccessLog(path)
    log.add(access(1))
    log.close()
    assert lost() - before == 1
    (tmp_path / "logs").unlink()
    log.add(access(2))
    log.close()
    assert ids(path) == ["r2"]

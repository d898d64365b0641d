"""Several processes append, and each is killed in the middle of it: what was told is there, and it holds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from phoenix_orch.security.audit_log import AuditLog

WRITERS, ROUNDS = 3, 4
PROGRAM = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from phoenix_orch.security.audit_chain import Entry
from phoenix_orch.security.audit_log import AuditLog

log = AuditLog(Path(sys.argv[1]), largest=20_000)
while True:
    entry = Entry(at=datetime.now(UTC), actor=sys.argv[2], action="a.b", target="c", reason="x" * 300)
    for record in log.append([entry] * 3):
        print(record.seq, record.hash, flush=True)
"""


@pytest.mark.timeout(120)
def test_what_was_told_survives_kills(tmp_path: Path) -> None:
    audit, told = tmp_path / "audit", dict[int, str]()
    for turn in range(ROUNDS):
        files = [tmp_path / f"told-{turn}-{writer}" for writer in range(WRITERS)]
        writers = [_writer(audit, file, str(number)) for number, file in enumerate(files)]
        try:
            for file in files:
                _until_some_lines(file, 30)
        finally:
            for writer in writers:
                os.kill(writer.pid, signal.SIGKILL)
                writer.wait()
        told |= {seq: found for file in files for seq, found in _told(file)}
    log = AuditLog(audit)
    found = log.verify()
    assert found.holds
    there = {record.seq: record.hash for record in log.after(0)}
    assert told.items() <= there.items()
    assert list(there) == list(range(1, len(there) + 1)), "each number once, and none left out"
    assert len(log.files()) > 1


def _writer(audit: Path, out: Path, name: str) -> subprocess.Popen[bytes]:
    with out.open("wb") as file:
        return subprocess.Popen([sys.executable, "-c", PROGRAM, str(audit), name], stdout=file)


def _until_some_lines(file: Path, lines: int) -> None:
    deadline = time.monotonic() + 60
    while file.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < deadline, "nobody writes"
        time.sleep(0.02)


def _told(file: Path) -> list[tuple[int, str]]:
    """Whole lines only: a killed process may have printed half of one."""
    lines = [line.split() for line in file.read_text("ascii").split("\n")[:-1]]
    return [(int(seq), found) for seq, found in lines]

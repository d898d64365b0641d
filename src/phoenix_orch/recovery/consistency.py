"""Whether files are whole in themselves: what a copy that is byte for byte right does not tell.

Run for what is about to be copied, and again for what was restored. Nothing is written to the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.recovery.consistency_spec import CheckKind, FileCheck
from phoenix_orch.recovery.sources.tree import OURS
from phoenix_orch.runtime.valkey_program import find_binary

LARGEST_JSON = 256 * 2**20
"""Bytes of one JSON value that is read whole, and of what a program prints: 64 KiB of it."""
_PRINTED = 64 * 1024
_FOLDER = "{folder}"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found in one file, or in the folder."""

    kind: CheckKind
    subject: str
    fault: str = ""
    """Empty when it holds."""
    printed: Any = None
    """What the application's own program said, where that is JSON."""

    def fact(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in ("", None)}


def checked(folder: Path, checks: Sequence[FileCheck]) -> list[Finding]:
    """Run all of them, in their order. Files that cannot be read are findings, too."""
    found: list[Finding] = []
    for check in checks:
        found += _files(folder, check) if check.files else [_command(folder, check)]
    return found


def faults(found: Iterable[Finding]) -> str:
    """The first faults as a person reads them; empty when all hold."""
    wrong = [f"{one.subject}: {one.fault}" for one in found if one.fault]
    more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return "; ".join(wrong[:3]) + more


def _files(folder: Path, check: FileCheck) -> list[Finding]:
    files = sorted(
        file
        for file in folder.glob(check.files)
        if file.is_file() and not any(part.startswith(OURS) for part in file.relative_to(folder).parts)
    )
    found = [Finding(check.kind, os.fspath(file.relative_to(folder)), _one(file, check)) for file in files]
    if len(files) < check.at_least:
        few = f"{len(files)} files match, and there have to be {check.at_least}"
        found.append(Finding(check.kind, check.files, few))
    return found


def _one(file: Path, check: FileCheck) -> str:
    of = {
        CheckKind.SQLITE: sqlite_fault,
        CheckKind.JSON: json_fault,
        CheckKind.JSON_LINES: json_lines_fault,
    }
    try:
        if check.kind is CheckKind.AOF:
            return aof_fault(file, check.timeout.total_seconds())
        return of[check.kind](file)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def sqlite_fault(file: Path) -> str:
    """What SQLite says of a copy of the database with its log; empty when it is well. Raises OSError.

    A copy, since reading a database with a log or a hot journal writes beside it.
    """
    with tempfile.TemporaryDirectory(prefix="phoenix-") as place:
        copy = Path(place) / "copy.db"
        for end in ("", "-wal", "-journal"):
            part = file.with_name(file.name + end)
            if part.exists():
                shutil.copyfile(part, f"{copy}{end}")
        try:
            with contextlib.closing(sqlite3.connect(copy)) as database:
                said = [str(row[0]) for row in database.execute("PRAGMA quick_check(3)")]
        except sqlite3.Error as error:
            return str(error)
    return "" if said == ["ok"] else "; ".join(said)


def json_fault(file: Path) -> str:
    """Raises OSError."""
    size = file.stat().st_size
    if size > LARGEST_JSON:
        return f"{size:,} bytes are more than are read as one value; check it as jsonLines, or by a command"
    try:
        json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        return _said_of_json(error)
    return ""


def json_lines_fault(file: Path) -> str:
    """The first line that is none. The last one may be unfinished: its writer is at it. Raises OSError."""
    with file.open("rb") as content:
        lines = iter(lambda: content.readline(LARGEST_JSON + 1), b"")
        for number, line in enumerate(lines, start=1):
            if len(line) > LARGEST_JSON:
                return f"line {number} has more than {LARGEST_JSON:,} bytes"
            if not line.endswith(b"\n"):
                break
            try:
                json.loads(line)
            except (ValueError, RecursionError) as error:
                return f"line {number}: {_said_of_json(error)}"
    return ""


def aof_fault(file: Path, limit: float = 300.0) -> str:
    """What is wrong with an append-only file; of a multi-part one `file` is the manifest. Empty when it is
    whole. Raises OSError.

    The server's own program says it, under the names by which it checks. `valkey-check-aof` 9.1 takes a base
    in Valkey's own format for commands, so that the parts are checked one by one.
    """
    if file.suffix != ".manifest":
        return _valkey_says(file, limit)
    parts = [line.split() for line in file.read_text("utf-8", "surrogateescape").splitlines()]
    names = [words[1] for words in parts if len(words) >= 6 and words[0] == "file" and words[5] != "h"]
    if not names:
        return "the manifest names no file"
    for name in names:
        if "/" in name or not (file.parent / name).is_file():
            return f"{name} is in the manifest, and not there"
        fault = _valkey_says(file.parent / name, limit)
        if fault:
            return f"{name}: {fault}"
    return ""


def _valkey_says(file: Path, limit: float) -> str:
    with file.open("rb") as content:
        begin = content.read(6)
    if not begin:
        return ""  # nothing was written to it yet
    called = "valkey-check-rdb" if begin == b"VALKEY" else "valkey-check-aof"
    with tempfile.TemporaryDirectory(prefix="phoenix-") as place:
        program = Path(place) / called
        try:
            program.symlink_to(find_binary(None))
        except PhoenixError as error:
            return error.message
        status, said = _ran((os.fspath(program), os.fspath(file)), None, limit)
    if status == "":
        return ""
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return f"{lines[-1] if lines else 'it said nothing'} ({status})"


def _command(folder: Path, check: FileCheck) -> Finding:
    words = tuple(word.replace(_FOLDER, os.fspath(folder)) for word in check.command)
    status, said = _ran(words, folder, check.timeout.total_seconds())
    printed: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        printed = json.loads(said)
    return Finding(check.kind, check.command[0], status, printed)


def _ran(words: Sequence[str], folder: Path | None, limit: float) -> tuple[str, bytes]:
    """What is wrong with how a program ended, and the first of what it printed. Its whole group has gone."""
    with tempfile.TemporaryFile() as printed:
        try:
            process = subprocess.Popen(
                words,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT if folder is None else subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            return f"cannot be started: {error.strerror}", b""
        end = time.monotonic() + limit
        try:
            status = process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            return f"not done in {limit:g} s", b""
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        size = printed.seek(0, os.SEEK_END)
        printed.seek(max(0, size - _PRINTED) if folder is None else 0)
        said = printed.read(_PRINTED)
    if status == 0:
        return "", said
    return (f"signal {-status}" if status < 0 else f"exit status {status}"), said


def _said_of_json(error: Exception) -> str:
    """Without any of the content."""
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON from character {error.pos}"
    return "no JSON: nested too deep" if isinstance(error, RecursionError) else "no JSON: not UTF-8"

"""All processes of this machine at one moment, and who started whom."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Row:
    """One process."""

    parent: int
    group: int
    session: int
    started: str
    """Compared, never read: boot and clock ticks since then on Linux, seconds since 1970 elsewhere."""
    over: bool
    """It has ended and waits to be reaped."""


Table = Mapping[int, Row]


def table() -> Table:
    """By pid. Takes some 50 microseconds for each process on Linux."""
    found: dict[int, Row] = {}
    if not Path("/proc/self/stat").exists():
        return _table_elsewhere()
    boot = boot_id()
    for name in os.listdir("/proc"):  # noqa: PTH208 - hundreds of names, no paths
        if name.isdecimal() and (row := _row(int(name), boot)) is not None:
            found[int(name)] = row
    return found


def row(pid: int) -> Row | None:
    """One process; None when there is none, or where it cannot be told like this."""
    return _row(pid, boot_id())


def below(processes: Table, roots: Iterable[int]) -> set[int]:
    """`roots` and everything that descends from them."""
    children: dict[int, list[int]] = {}
    for pid, one in processes.items():
        children.setdefault(one.parent, []).append(pid)
    found, waiting = set[int](), list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, ())
    return found


def boot_id() -> str:
    """Names the present run of the kernel; empty where it has no name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _row(pid: int, boot: str) -> Row | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None  # it has gone, or belongs to somebody whose processes are hidden (hidepid)
    fields = stat.rpartition(b")")[2].split()  # the name before it may hold anything
    # The first thread is a zombie as long as others live; only with the last one can it be reaped.
    over = fields[0] == b"X" or (fields[0] == b"Z" and int(fields[17]) <= 1)
    # Not psutil's create_time: that is a wall clock time, and moves when the clock is set.
    started = f"{boot}/{int(fields[19])}"
    return Row(int(fields[1]), int(fields[2]), int(fields[3]), started, over)


def _table_elsewhere() -> Table:
    found: dict[int, Row] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError), process.oneshot():
            over = process.status() == psutil.STATUS_ZOMBIE
            group, session = os.getpgid(process.pid), os.getsid(process.pid)
            found[process.pid] = Row(process.ppid(), group, session, repr(process.create_time()), over)
    return found

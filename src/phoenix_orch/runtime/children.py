"""Children of this process that it did not start: orphans of what it started.

A process whose parent has ended gets another one: the nearest ancestor that asked for orphans, else the
first process of the machine, where nobody can tell any more whose it was. Phoenix asks for them. They are
known from its own children because those are noted when they are started.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

from phoenix_orch.runtime.exit_watch import reap
from phoenix_orch.runtime.process_table import Table, row

_PR_SET_CHILD_SUBREAPER = 36
"""From <linux/prctl.h>."""


class _Own:
    """Of this process."""

    adopting = False
    started: set[tuple[int, str]] = set()  # noqa: RUF012 - there is one process


@contextlib.contextmanager
def adopting_orphans() -> Iterator[bool]:
    """Be the parent of orphans of everything that is started within; gives whether that is possible.

    For a program that looks after them with `orphans`: somebody has to reap them. Children that were not
    noted count as orphans while it lasts, so it ends with what it is for.
    """
    _Own.adopting = _subreaper(True)
    try:
        yield _Own.adopting
    finally:
        if _Own.adopting:
            _subreaper(False)
        _Own.adopting = False
        _Own.started.clear()


def _subreaper(wanted: bool) -> bool:
    if sys.platform != "linux":
        return False
    with contextlib.suppress(AttributeError, OSError):
        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) == 0)
    return False


def note(pid: int) -> None:
    """Say that this process has just started `pid`, and will reap it."""
    if _Own.adopting and (found := row(pid)) is not None:
        _Own.started.add((pid, found.started))


class Orphans:
    """Tells orphans from one look at the processes to the next, and reaps those that have ended."""

    def __init__(self) -> None:
        self._before: set[tuple[int, str]] = set()

    def among(self, processes: Table) -> set[int]:
        """Pids of orphans that live. None where this process did not ask for them.

        One is believed at the second look: a child that was started a moment ago may not be noted yet.
        """
        if not _Own.adopting:
            return set()
        own = os.getpid()
        _forget_ended()
        present = {(pid, one.started) for pid, one in processes.items() if one.parent == own}
        seen = present - _Own.started
        orphans, self._before = {pid for pid, _ in seen & self._before}, seen
        over = {pid for pid in orphans if processes[pid].over}
        for pid in over:
            reap(pid)
        return orphans - over


def _forget_ended() -> None:
    """Forget children that have been reaped."""
    for pid, started in list(_Own.started):
        found = row(pid)
        if found is None or found.started != started:
            _Own.started.discard((pid, started))

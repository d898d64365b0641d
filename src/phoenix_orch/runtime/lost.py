"""Processes of ours that no file names any more: found again by their command line, and what they were told.

A file that names a process can be deleted or torn while the process lives. Then the process itself says what
it is: a word of its command line that only it has, because it is a path in our directory, and a variable
of its environment that holds what the file held.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil

from phoenix_orch.runtime import detached
from phoenix_orch.runtime.detached import Process


def named(word: str) -> list[Process]:
    """Living processes of this user with `word` among the words of their command line.

    On Linux only of those that see the same file systems: to another container the same path is another
    directory. Looks at every process: some 10 ms.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if word in process.cmdline() and process.uids().real == os.getuid() and _sees_ours(process.pid):
                known = detached.find(process.pid)
                if known is not None and known.pid != os.getpid():
                    found.append(known)
    return found


def told(process: Process, variable: str) -> str:
    """What the process was given as `variable` when it was started; empty when that cannot be known."""
    with contextlib.suppress(psutil.Error, OSError, ValueError):
        value = psutil.Process(process.pid).environ().get(variable, "")
        return value if process.alive else ""
    return ""


def _sees_ours(pid: int) -> bool:
    own, other = Path("/proc/self/ns/mnt"), Path(f"/proc/{pid}/ns/mnt")
    return not own.exists() or own.readlink() == other.readlink()

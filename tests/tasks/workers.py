"""Workers as processes, which tests kill and start again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Workers:
    """Processes that run `tests.tasks.kinds`."""

    def __init__(self, *arguments: str) -> None:
        """`arguments`: url, prefix, lease in seconds, and those of a schedule."""
        self._arguments = arguments
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.tasks.kinds", *self._arguments],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self.processes.append(process)
        return process

    def replace_dead(self) -> None:
        for process in [one for one in self.processes if one.poll() is not None]:
            self.processes.remove(process)
            self.start()

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def kill_all(self) -> None:
        for process in self.processes:
            self.kill(process)


@contextlib.contextmanager
def workers(count: int, *arguments: str) -> Iterator[Workers]:
    found = Workers(*arguments)
    try:
        for _ in range(count):
            found.start()
        yield found
    finally:
        for process in found.processes:
            process.kill()
            process.wait()

"""Processes that are meant to outlive Phoenix: start them, know them again, end them, keep them running.

A process is known by its pid and the moment it was started, as the kernel counts it: a pid alone is
given to somebody else sooner or later.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil
import structlog
from pydantic import BaseModel, ConfigDict

from phoenix_orch.kernel.errors import PhoenixError, Retryable
from phoenix_orch.runtime import children, process_table
from phoenix_orch.runtime.exit_watch import ExitWatch, pidfd
from phoenix_orch.runtime.exit_watch import reap as reap  # noqa: PLC0414 - offered here, too

HARMLESS = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")
"""Variables that a program from elsewhere may see of Phoenix's environment: no secrets among them."""
STEADY = 10.0
"""Seconds after which a process that dies was not a failed start."""
SLOWEST_RESTART = 5.0
_POLL = 0.05

_log = structlog.get_logger("phoenix.detached")


class Process(BaseModel):
    """One process of this machine, ours or not, running or not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    started: str
    """Compared, never read: boot and clock ticks since then on Linux, seconds since 1970 elsewhere."""

    @property
    def alive(self) -> bool:
        """It runs; one that ended and waits to be reaped does not."""
        return _started(self.pid) == self.started


def find(pid: int) -> Process | None:
    """The process that has this pid now."""
    started = _started(pid)
    return Process(pid=pid, started=started) if started is not None else None


def spawn(
    command: Sequence[str], *, output: Path, environment: Mapping[str, str], keep_open: Iterable[int] = ()
) -> Process:
    """Start a program in a session of its own: neither Ctrl-C nor the end of Phoenix reaches it.

    What it prints replaces the content of `output`. It inherits the descriptors of `keep_open` (under
    other numbers) and no others; a lock held through one of them is held until the program ends.
    Raises OSError.
    """
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(output), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    inherited = list(keep_open)
    free = (number for number in range(3, 1024) if number not in inherited)
    actions += [(os.POSIX_SPAWN_DUP2, descriptor, next(free)) for descriptor in inherited]
    # Not subprocess: that waits for its children, and this one is meant to be left behind.
    pid = os.posix_spawn(
        command[0],
        list(command),
        dict(environment),
        file_actions=actions,
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE],
    )
    children.note(pid)
    process = find(pid)
    # A child that has ended already stays a zombie, with a start time, until it is reaped.
    return process if process is not None else Process(pid=pid, started="ended at once")


def harmless_environment(*more: str) -> dict[str, str]:
    """Those variables of Phoenix's environment that are HARMLESS, and those named."""
    return {name: os.environ[name] for name in (*HARMLESS, *more) if name in os.environ}


async def ended(process: Process) -> None:
    """Return at once when the process has ended, and put it to rest if it was a child."""
    watch = ExitWatch(process.pid, lambda: process.alive)
    try:
        await watch.wait()
    finally:
        watch.close()
    reap(process.pid)


def wait(process: Process, timeout: float) -> bool:
    """Wait until the process has ended, at most `timeout` seconds; whether it has. Blocking."""
    descriptor = pidfd(process.pid)
    give_up = time.monotonic() + timeout
    try:
        if descriptor is not None and process.alive:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll(timeout * 1000)
        while process.alive and time.monotonic() < give_up:
            time.sleep(_POLL)
    finally:
        if descriptor is not None:
            os.close(descriptor)
    reap(process.pid)
    return not process.alive


def end(process: Process, *, grace: float, name: str) -> None:
    """SIGTERM, and SIGKILL after `grace` seconds. Idempotent. Blocking.

    Raises Retryable when the kernel does not let go of it, as it may in the middle of a slow write.
    """
    send(process, signal.SIGTERM)
    if not wait(process, grace):
        send(process, signal.SIGKILL)
        if not wait(process, 5.0):
            raise Retryable(
                f"{name} (pid {process.pid}) does not end, although it was killed",
                remedy="its disk may hang: look at the kernel's messages",
            )


def send(process: Process, number: signal.Signals) -> None:
    """Send a signal to this process and never to another one. Nothing happens when it has ended."""
    descriptor = pidfd(process.pid)
    try:
        if process.alive:
            with contextlib.suppress(ProcessLookupError):
                if descriptor is not None:
                    signal.pidfd_send_signal(descriptor, number)
                else:
                    os.kill(process.pid, number)
    finally:
        if descriptor is not None:
            os.close(descriptor)


async def keep(
    name: str,
    ensure: Callable[[], Awaitable[Process]],
    gone: Callable[[Process], Awaitable[str]],
) -> None:
    """Have `ensure` start the process again whenever it is gone, until cancelled.

    `gone` returns when it is, with the reason. A process that dies young is started again after a
    pause that doubles up to 5 s; faults of `ensure` are tried again in the same way, and logged once
    for as long as they stay the same.
    """
    delay, told = 0.0, ""
    while True:
        begun = time.monotonic()
        try:
            process = await ensure()
        except PhoenixError as error:
            if told != error.message:
                told = error.message
                _log.error(f"{name} does not start", reason=error.message, remedy=error.remedy)
        else:
            begun, told = time.monotonic(), ""
            reason = await gone(process)
            _log.warning(f"{name} ended", pid=process.pid, reason=reason)
        delay = 0.0 if time.monotonic() - begun > STEADY else min(SLOWEST_RESTART, 2 * delay + 0.1)
        await asyncio.sleep(delay)


def _started(pid: int) -> str | None:
    """When the process with this pid started; None when there is none that runs."""
    found = process_table.row(pid)
    if found is None:
        return None if Path("/proc/self/stat").exists() else _started_elsewhere(pid)
    return None if found.over else found.started


def _started_elsewhere(pid: int) -> str | None:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return repr(process.create_time())
    return None

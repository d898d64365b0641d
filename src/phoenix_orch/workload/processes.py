"""Processes of instances: started in sessions of their own, marked, found again, signalled.

Two variables in the environment mark a process as ours and are inherited by what it starts:
PHOENIX_DATA_DIR says whose, PHOENIX_INSTANCE which. Nothing that is not marked is ever signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from phoenix_orch.runtime.directories import make_private

DATA_DIR = "PHOENIX_DATA_DIR"
INSTANCE = "PHOENIX_INSTANCE"
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV")
"""What instances get of Phoenix's own environment: enough to run, and none of its secrets."""
SAME_START = 0.05
"""Seconds; the kernel counts starts in hundredths."""


class CannotStart(Exception):
    """The command cannot be run; the text says why, in words for the person who wrote it."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process beyond doubt: pids are used again, a pid and the moment of its start are not."""

    pid: int
    started: float
    """Seconds since 1970, as the kernel tells it."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A running process that bears our mark."""

    process: ProcessId
    instance: str
    revision: str
    service: str
    port: int | None
    leads: bool
    """It leads its session: it is the process that was started, not one that this one started."""
    ancestors: frozenset[int] = frozenset()
    """Pids of the living processes it descends from."""


def environment(given: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """What an instance sees: a little of ours, then the template's, then what Phoenix tells it."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith(("LC_", "SSL_CERT_"))
    }
    return {**inherited, **given, **own}


def start(command: tuple[str, ...], env: Mapping[str, str], cwd: Path, log: Path) -> ProcessId:
    """Run `command` without a shell, in a session of its own, with its output appended to `log`.

    Nothing of it leads through Phoenix, so that it goes on when Phoenix is killed. Blocks for the few
    milliseconds until the program is loaded. Raises CannotStart.
    """
    if not cwd.is_dir():
        raise CannotStart(f"its working directory {cwd} does not exist or is not a directory")
    try:
        make_private(log.parent)
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    except OSError as error:
        raise CannotStart(f"its log {log} cannot be opened: {error.strerror}") from None
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=dict(env),
            start_new_session=True,
        )
    except FileNotFoundError:
        raise CannotStart(f"there is no program {command[0]!r}") from None
    except PermissionError:
        raise CannotStart(f"{command[0]!r} may not be executed") from None
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise CannotStart(f"{command[0]!r} cannot be run: {error}") from None
    finally:
        os.close(output)
    # The child is meant to be left behind and is reaped by pid; Popen shall not mourn it.
    child.returncode = 0
    return identify(child.pid) or ProcessId(child.pid, 0.0)


def identify(pid: int) -> ProcessId | None:
    """The process that has this pid now, also when it has ended and is not reaped. None: nobody."""
    try:
        return ProcessId(pid, psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def is_alive(process: ProcessId) -> bool:
    """It runs: it exists, is the one that is meant and has not ended."""
    try:
        found = psutil.Process(process.pid)
        return abs(found.create_time() - process.started) <= SAME_START and not _over(found)
    except psutil.Error:
        return False


def _over(found: psutil.Process) -> bool:
    """It has ended and waits to be reaped. A first thread that ended while others live looks the same, but
    for their number. Raises psutil.Error."""
    return found.status() == psutil.STATUS_ZOMBIE and found.num_threads() <= 1


def watcher(process: ProcessId) -> Callable[[], bool]:
    """Tells whether `process` still runs, whatever happens to the clock of the machine meanwhile."""
    try:
        found = psutil.Process(process.pid)
    except psutil.Error:
        return lambda: False
    if not is_alive(process):
        return lambda: False

    def alive() -> bool:
        try:
            return found.is_running() and not _over(found)
        except psutil.Error:
            return False

    return alive


def marked(data_dir: Path, instance: str | None = None) -> list[Marked]:
    """All running processes of this user that were started for instances below `data_dir`, or for one.

    Reads the environment of every process: some 10 ms. A program that overwrites its own environment
    is not found here; it is still known by pid and start where it was written down.
    """
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error, OSError, ValueError):
            env = process.environ()
            if env.get(DATA_DIR) != str(data_dir) or INSTANCE not in env:
                continue
            if instance is not None and env[INSTANCE] != instance:
                continue
            if _over(process):
                continue
            found.append(
                Marked(
                    process=ProcessId(process.pid, process.create_time()),
                    instance=env[INSTANCE],
                    revision=env.get("PHOENIX_REVISION", ""),
                    service=env.get("PHOENIX_SERVICE", ""),
                    port=int(env["PORT"]) if env.get("PORT", "").isdigit() else None,
                    leads=os.getsid(process.pid) == process.pid,
                    ancestors=frozenset(parent.pid for parent in process.parents()),
                )
            )
    return found


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal the group that `pid` leads, and so whatever it started. Gone is as good as signalled."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def end_leftovers(process: ProcessId) -> None:
    """SIGKILL what is left of the group of a leader that ended, unless its pid was given to another.

    The number of a group that has members is given to nobody: as long as no process has it as its
    pid, the group is still the one that is meant.
    """
    holder = identify(process.pid)
    if holder is None or abs(holder.started - process.started) <= SAME_START:
        signal_group(process.pid, signal.SIGKILL)


def signal_process(process: ProcessId, number: signal.Signals) -> None:
    """Signal one process, if it is still the one that is meant."""
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)


def kernel_oom_kills() -> int | None:
    """How many processes the kernel has killed since boot for want of memory. None: it does not tell."""
    try:
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    except (OSError, ValueError):
        pass
    return None

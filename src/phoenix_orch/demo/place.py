"""Where a demo keeps its things, and how nothing of it stays behind.

Each demo has a directory of its own and holds a lock in it for as long as it lives; the kernel lets
go of the lock however the demo ends. A directory whose lock is free belongs to a demo that was killed:
the next demo ends what still runs for it and removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.runtime.files import temporary_folder
from phoenix_orch.workload import processes

MARK = "PHOENIX_DEMO"
"""Environment variable of every process that a demo starts: its directory. The shop's instances have
Phoenix's own mark instead."""
_LOCK = "demo.lock"
_GRACE_SECONDS = 4.0
_PROGRAMS = ("traefik", "valkey-server", "redis-server")
"""Programs of Phoenix that do not get its environment; their command line or working directory tells."""


def home() -> Path:
    """The directory of all demos of this user."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(cache) if cache.startswith("/") else Path("~/.cache").expanduser()
    try:
        base.mkdir(parents=True, exist_ok=True)
        if os.access(base, os.W_OK | os.X_OK):
            return base / "phoenix-demo"
    except OSError:
        pass
    return temporary_folder() / f"phoenix-demo-{os.getuid()}"


@contextlib.contextmanager
def fresh_place(*, directory: Path | None = None, keep: bool = False) -> Iterator[Path]:
    """An empty directory for one demo; it is removed at the end unless `keep`.

    `directory`: use this one, which has to be new or empty, and keep it. Raises Invalid.
    """
    base = home()
    with _all_demos(base):
        reap(base)
        root = base / secrets.token_hex(3) if directory is None else directory.absolute()
        lock = _own(root)
    try:
        yield root
    finally:
        leave(root, keep=keep or directory is not None)
        lock.close()


def leave(root: Path, *, keep: bool) -> None:
    """End what still runs for the demo in `root`, and remove its files. With `keep` they stay, and are
    no demo's any more, so that no later one removes them."""
    end_processes(root)
    if keep:
        (root / _LOCK).unlink(missing_ok=True)
    else:
        shutil.rmtree(root, ignore_errors=True)


def reap(base: Path) -> list[Path]:
    """Clean up after demos that were killed; their directories."""
    dead = [root for root in sorted(base.iterdir()) if root.is_dir() and is_dead(root)]
    for root in dead:
        leave(root, keep=False)
    return dead


def is_dead(root: Path) -> bool:
    """Nobody holds the lock of this demo any more. A directory without a lock is not a demo's."""
    try:
        with (root / _LOCK).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def processes_of(root: Path) -> list[psutil.Process]:
    """Every process of this user that runs for the demo in `root`, but not this one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            mine = process.uids().real == os.getuid() and process.pid != os.getpid()
            if mine and process.status() != psutil.STATUS_ZOMBIE and _belongs(process, str(root)):
                found.append(process)
    return found


def end_processes(root: Path) -> int:
    """SIGTERM, a few seconds, SIGKILL; repeated until none is left, as a supervisor that is just
    ending may have started another. Gives how many there were."""
    count = 0
    deadline = time.monotonic() + 3 * _GRACE_SECONDS
    while left := processes_of(root):
        count += len(left)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, stubborn = psutil.wait_procs(left, timeout=_GRACE_SECONDS)
        for process in stubborn:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(stubborn, timeout=1.0)
        if time.monotonic() > deadline:
            break
    return count


def _belongs(process: psutil.Process, root: str) -> bool:
    with contextlib.suppress(psutil.Error):
        environment = process.environ()
        if root in (environment.get(MARK), environment.get(processes.DATA_DIR)):
            return True
    command = process.cmdline()
    if process.name() in _PROGRAMS:
        return any(f"{root}/" in word for word in (*command, process.cwd()))
    ours = "phoenix_orch." in " ".join(command[:5])
    return ours and any(word == root or f"{root}/" in word for word in command)


@contextlib.contextmanager
def _all_demos(base: Path) -> Iterator[None]:
    """One demo at a time may look for dead ones and make its own directory."""
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (base / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _own(root: Path) -> _Lock:
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise Invalid(
                f"the directory {root} is not empty", remedy="name a new one, or leave --data-dir out"
            )
        return _Lock(root / _LOCK)
    except OSError as error:
        raise Invalid(
            f"the directory {root} cannot be used: {error.strerror}", remedy="name another one"
        ) from error


class _Lock:
    def __init__(self, path: Path) -> None:
        self._file = path.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        self._file.close()

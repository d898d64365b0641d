"""`phoenix up`: the whole of Phoenix in one foreground process.

Started in the order of dependence (store, router, workloads, controllers, API) and ended in the
reverse one, so that at no moment a request is sent to something that has already left. When Phoenix
fails or is killed, nothing of it is ended: the next one adopts what runs (ADR 0001).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Collection, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import structlog

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.observability.tracing_exporter import exported
from phoenix_orch.orchestrator import leftovers
from phoenix_orch.orchestrator.api_spec import api_spec
from phoenix_orch.orchestrator.api_work import ServeApi
from phoenix_orch.orchestrator.applying import Applying
from phoenix_orch.orchestrator.components import (
    Parts,
    open_parts,
    run_health_validator,
    run_rollback_controller,
)
from phoenix_orch.orchestrator.config import PhoenixFile, load
from phoenix_orch.orchestrator.differing import differing
from phoenix_orch.orchestrator.kept_config import read_kept
from phoenix_orch.orchestrator.kept_files import keep_files
from phoenix_orch.orchestrator.layout import Layout, only_one, open_clock, write_whole
from phoenix_orch.orchestrator.master import Master
from phoenix_orch.orchestrator.recording import open_recorder
from phoenix_orch.orchestrator.serving import Serving, remembered
from phoenix_orch.runtime.children import adopting_orphans
from phoenix_orch.runtime.held_lock import HeldLock, keep_held
from phoenix_orch.runtime.logs import configure_logs
from phoenix_orch.runtime.memory import return_large_blocks
from phoenix_orch.runtime.stuck_loop import stuck_loop_told
from phoenix_orch.runtime.valkey_server import ValkeyServer
from phoenix_orch.security.recorder import Recorder
from phoenix_orch.traffic import traefik_api
from phoenix_orch.traffic.embedded import EmbeddedRouter
from phoenix_orch.traffic.spec import RouterSpec
from phoenix_orch.traffic.traefik_process import TraefikProcess
from phoenix_orch.workload.process import ProcessWorkload
from phoenix_orch.workload.processes import marked

STATUS_OF_SIGNAL = {signal.SIGINT: 130, signal.SIGTERM: 0, signal.SIGHUP: 0}

_log = structlog.get_logger("phoenix")


def run_up(
    file: Path | None,
    data_dir: Path,
    speed: float,
    serve_api: ServeApi,
    *,
    store_url: str | None = None,
    others: bool = True,
    listen: str | None = None,
) -> int:
    """Run until a signal comes; returns the exit status. Raises PhoenixError where it cannot start.

    `store_url`: a Redis or Valkey to use instead of the embedded one. `others`: run health validator
    and rollback controller in this process too. `listen`: where the API is answered over TCP, or `off`;
    left out: where the configuration says.
    """
    configure_logs()
    return_large_blocks()
    config = load(file) if file is not None else None
    api_spec(config, listen)  # a wrong address is told before anything is started
    layout = Layout(data_dir.expanduser().absolute())
    with adopting_orphans(), exported("master-orchestrator"):
        return asyncio.run(
            _up(config, layout, speed, serve_api, store_url=store_url, others=others, listen=listen)
        )


def run_down(data_dir: Path, *, dry_run: bool = False) -> list[str]:
    """End in order what a Phoenix that died left on `data_dir`, and tell what that was.

    Raises BadState while one runs, Invalid for a directory that is none of Phoenix.
    """
    layout = Layout(data_dir.expanduser().absolute())
    found = leftovers.running(layout)
    if not layout.made and not found:
        raise Invalid(
            f"there is no Phoenix in {layout.root}", remedy="name its data directory with --data-dir"
        )
    if dry_run and not layout.made:
        return found
    layout.make()  # it may have been removed, and what ran there runs on
    with _only_phoenix(layout, "stop that one, with Ctrl-C or SIGTERM: it ends everything itself"):
        found = leftovers.running(layout)
        if not dry_run:
            asyncio.run(_down(layout))
    return found


@dataclass(frozen=True, slots=True)
class Machinery:
    """What Phoenix starts on a machine, besides itself."""

    valkey: ValkeyServer | None
    traefik: TraefikProcess
    workload: ProcessWorkload

    async def store_url(self) -> str:
        """Address of the embedded store, which runs from now on."""
        assert self.valkey is not None
        return (await self.valkey.ensure()).url

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """What keeps it alive."""
        loops = [self.traefik.keep(), self.workload.run()]
        return loops if self.valkey is None else [self.valkey.run(), *loops]

    async def stop(self, spare: Collection[str] = ()) -> None:
        """Users first: the router finishes what it has begun, then services drain, then the store.

        What is named in `spare` goes on: `router`, `services`, `store`.
        """
        if "router" not in spare:
            await self.traefik.stop()
        if "services" not in spare:
            await self.workload.stop()
        if self.valkey is not None and "store" not in spare:
            await self.valkey.stop()

    def running(self, layout: Layout) -> frozenset[str]:
        """Which of router, services and store run now, whoever started them."""
        store = self.valkey is not None and self.valkey.runs()
        found = {
            "router": traefik_api.running(layout.router) is not None,
            "services": bool(marked(layout.root)),
            "store": store,
        }
        return frozenset(name for name, there in found.items() if there)


@dataclass
class Started:
    """How far a start has come."""

    clock: Clock
    kept_clock: str
    """What `clock.json` holds."""
    storing: bool = False
    """Moments of the clock may be in the store."""
    serving: bool = False
    """Phoenix can be asked: the start has succeeded."""

    def listening(self) -> None:
        self.serving = True


@contextlib.contextmanager
def _clock(layout: Layout, speed: float) -> Iterator[Started]:
    """The clock of the data directory. A start that fails early leaves no time line that the next one,
    perhaps with another speed, would have to go on with."""
    fresh = not layout.clock.exists()
    started = Started(open_clock(layout, speed), layout.clock.read_text(encoding="utf-8"))
    try:
        yield started
    except Exception:
        if fresh and not started.storing:
            layout.clock.unlink(missing_ok=True)
        raise


async def _up(
    config: PhoenixFile | None,
    layout: Layout,
    speed: float,
    serve_api: ServeApi,
    *,
    store_url: str | None,
    others: bool,
    listen: str | None,
) -> int:
    layout.make()
    with (
        _only_phoenix(layout) as lock,
        ending_signals() as stop,
        stuck_loop_told(),
        _clock(layout, speed) as started,
    ):
        known = config or read_kept(layout.config)
        router = known.router if known else RouterSpec()
        machinery = Machinery(
            valkey=ValkeyServer(layout.valkey) if store_url is None else None,
            traefik=TraefikProcess(layout.router, router, edges=_latency_limits(known)),
            workload=ProcessWorkload(layout.root),
        )
        before = await asyncio.to_thread(machinery.running, layout)
        try:
            url = store_url or await machinery.store_url()
            await _expect_routes(layout, known)
            await machinery.traefik.ensure()
            async with open_parts(layout, started.clock, url, speed) as parts:
                recorder = await open_recorder(layout)
                recorder.note("phoenix.start", "phoenix", after={"pid": os.getpid(), "speed": speed})
                work = _work(
                    parts,
                    machinery,
                    config,
                    serve_api,
                    started,
                    recorder=recorder,
                    others=others,
                    listen=listen,
                )
                loops = [work, recorder.run(), keep_held(lock), *machinery.loops()]
                status = await until(stop, loops)
                recorder.note("phoenix.stop", "phoenix", after={"pid": os.getpid()})
                await recorder.drain()
        except Exception:
            if not started.serving:
                await machinery.stop(before)  # what ran before goes on, what this start began does not
            elif not await asyncio.to_thread(marked, layout.root):
                await machinery.stop()  # nothing serves anybody; what does is left to the next Phoenix
            raise
        _log.info("stopping: requests under way finish, then services, then the store")
        await machinery.stop()
        layout.process.unlink(missing_ok=True)
        return status


async def _expect_routes(layout: Layout, known: PhoenixFile | None) -> None:
    """From its first moment the router says 503 for what is about to be served: not 404, and not 502 for
    instances of which only the table knows any more."""
    router = EmbeddedRouter(layout.router)
    dead = await router.drop_refusing()
    if dead:
        _log.info(
            "nobody listens where requests were sent last; 503 until an instance is ready", at=sorted(dead)
        )
    for name, spec in (known.routes if known else {}).items():
        await router.expect(name, spec)


async def _work(
    parts: Parts,
    machinery: Machinery,
    config: PhoenixFile | None,
    serve_api: ServeApi,
    started: Started,
    *,
    recorder: Recorder,
    others: bool,
    listen: str | None,
) -> None:
    """Learn what is wanted, then run the loops that bring it about."""
    started.storing = True
    applying = Applying(
        store=parts.store,
        router=parts.router,
        workload=machinery.workload,
        clock=parts.clock,
        kept=parts.layout.config,
        anew=config is not None,
        remembered=lambda service: remembered(parts.layout.serving, service),
    )
    serving = Serving(parts.store, lambda: applying.config, parts.layout.serving)
    await applying.declare_known()
    if config is not None:
        await _apply_at_start(applying, config, recorder)
    master = Master(
        parts, machinery.workload, applying, serve_api, started.listening, recorder=recorder, listen=listen
    )
    process = _write_process(parts.layout, parts.speed)
    kept = {
        parts.layout.process: lambda: process,
        parts.layout.clock: lambda: started.kept_clock,
        parts.layout.config: lambda: applying.text,
        parts.layout.serving: lambda: serving.text,
        parts.layout.freezes: lambda: master.book.text,
    }
    async with asyncio.TaskGroup() as group:
        group.create_task(master.run(), name="orchestrator")
        group.create_task(keep_files(kept), name="files")
        group.create_task(serving.keep(), name="what serves, for a backup")
        if others:
            group.create_task(run_health_validator(parts), name="health-validator")
            group.create_task(run_rollback_controller(parts), name="rollback-controller")


async def _apply_at_start(applying: Applying, config: PhoenixFile, recorder: Recorder) -> None:
    """What can be recorded only later keeps nothing from being served."""
    before, after = differing(applying.config, config)
    changes = await applying.apply(config, actor="phoenix up", starting=True)
    if changes or after:
        recorder.note("config.apply", "config", before=before, after={**(after or {}), "changes": changes})


async def until(stop: asyncio.Future[int], loops: list[Coroutine[Any, Any, None]]) -> int:
    """Run the loops until `stop` has a value. A loop that fails ends all of them and raises."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop) for loop in loops]
        status = await stop
        for task in tasks:
            task.cancel()
    return status


def _only_phoenix(
    layout: Layout, remedy: str = "stop it first, or name another directory with --data-dir"
) -> contextlib.AbstractContextManager[HeldLock]:
    return only_one(layout.lock("phoenix"), "phoenix up", remedy)


@contextlib.contextmanager
def ending_signals() -> Iterator[asyncio.Future[int]]:
    """The exit status to end with, once a signal asks for the end; further signals change nothing."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[int] = loop.create_future()

    def ask(number: signal.Signals) -> None:
        if not stop.done():
            stop.set_result(STATUS_OF_SIGNAL[number])

    for number in STATUS_OF_SIGNAL:
        loop.add_signal_handler(number, ask, number)
    try:
        yield stop
    finally:
        for number in STATUS_OF_SIGNAL:
            loop.remove_signal_handler(number)


def _latency_limits(config: PhoenixFile | None) -> list[float]:
    """Limits of all rollouts in seconds: the router makes each an edge of its histogram."""
    limits = [
        limit
        for entry in (config.effective_rollouts().values() if config else ())
        for step in entry.spec().steps()
        for limit in (step.limits.latency_p95, step.limits.latency_p99)
    ]
    return sorted({limit.total_seconds() for limit in limits if limit is not None})


def _write_process(layout: Layout, speed: float) -> str:
    """Say who runs here; the text."""
    text = json.dumps({"pid": os.getpid(), "started": psutil.Process().create_time(), "speed": speed})
    write_whole(layout.process, text)
    return text


async def _down(layout: Layout) -> None:
    machinery = Machinery(
        valkey=ValkeyServer(layout.valkey),
        traefik=TraefikProcess(layout.router, RouterSpec()),
        workload=ProcessWorkload(layout.root),
    )
    await machinery.stop()

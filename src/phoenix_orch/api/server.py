"""The application, and how it is served on a unix socket that only its owner may open."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from phoenix_orch.api import (
    audit,
    configuration,
    flow,
    getting_in,
    measured,
    probes,
    problems,
    records,
    rollouts,
    services,
    streams,
    tasks,
)
from phoenix_orch.api.accessed import Accessed
from phoenix_orch.api.answers import masked_by
from phoenix_orch.api.doors import READ, Authenticator, Reader
from phoenix_orch.api.guest_server import GuestServer
from phoenix_orch.api.hardening import Hardened
from phoenix_orch.api.identity import identity_of
from phoenix_orch.api.limits import BodyLimit
from phoenix_orch.api.live import Live
from phoenix_orch.api.local_tcp import local_tcp
from phoenix_orch.api.once import Once
from phoenix_orch.api.openapi import describing, operation_id
from phoenix_orch.api.peer import PeerProtocol, by_peer
from phoenix_orch.api.request_ids import RequestIds
from phoenix_orch.api.versions import Versions
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.masking import Masker
from phoenix_orch.observability.access_log import AccessLog
from phoenix_orch.orchestrator.api_spec import ApiSpec
from phoenix_orch.orchestrator.api_work import ApiWork
from phoenix_orch.orchestrator.identity import Doorkeeper
from phoenix_orch.orchestrator.layout import LONGEST_SOCKET, mask_key
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.orchestrator.views import Identity
from phoenix_orch.runtime.files import make_private
from phoenix_orch.security.audit_log import AuditLog, AuditRecords

PREFIX = "/api/v1"
GRACE = 2
"""Seconds that requests under way get at the end."""
LOOK = 1.0
"""Seconds between two looks whether the socket is in its place."""

_log = structlog.get_logger("phoenix")


def create_app(
    operations: Operations,
    masker: Masker | None = None,
    *,
    log: AuditRecords | None = None,
    authenticators: Sequence[Authenticator] = (by_peer,),
    access: AccessLog | None = None,
    identity: Doorkeeper | None = None,
    spec: ApiSpec | None = None,
) -> FastAPI:
    """The API over `operations`. `masker` masks what leaves; left out: one without a key.

    `log`: the audit log; left out: an empty one. `authenticators`: the ways to become known, asked in this
    order. `access`: where each request is noted; left out: nowhere. `identity` takes the place of
    `authenticators` with tokens, sessions, and the calls that are about them.
    """
    app = FastAPI(
        title="Phoenix Orchestrator",
        version=version("phoenix-orchestrator"),
        openapi_url=None,  # a route of ours, with a door
        docs_url=None,  # both load scripts from elsewhere
        redoc_url=None,
        default_response_class=masked_by(masker := masker or Masker()),
        telemetry={"tracing": False, "metrics": False, "logs": False},  # it tells whole addresses: ADR 0045
        generate_unique_id_function=operation_id,
    )
    app.openapi = describing(app)  # type: ignore[method-assign]
    app.state.live = live = Live(operations, masker.data)
    app.add_middleware(Versions)
    app.add_middleware(Once, answers=lambda: operations.answers)
    app.state.authenticators, app.state.rates = tuple(authenticators), None
    if identity is not None:
        getting_in.install(app, identity, spec or ApiSpec(), PREFIX)
    app.add_middleware(BodyLimit)
    problems.install(app)
    app.add_middleware(Hardened)
    app.add_middleware(measured.Measured, prefix=PREFIX)
    if access is not None:
        app.add_middleware(Accessed, log=access, prefix=PREFIX)
    app.add_middleware(RequestIds)  # the outermost: whatever is answered or logged below has the id

    @app.get(f"{PREFIX}/openapi.json", include_in_schema=False, dependencies=[READ])
    async def get_openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    @app.get(f"{PREFIX}/version", tags=["phoenix"], dependencies=[READ])
    async def get_version() -> dict[str, str]:
        """Version of the running Phoenix and of this API."""
        return {"version": app.version, "api": "v1"}

    @app.get(f"{PREFIX}/identity", tags=["phoenix"])
    async def get_identity(who: Reader) -> Identity:
        """Who asks, and what was granted to them."""
        return identity_of(who)

    @app.get(f"{PREFIX}/health", tags=["phoenix"], dependencies=[READ])
    async def get_health() -> dict[str, Any]:
        """Process, data directory, speed, and each component with its state."""
        return await operations.info()

    app.include_router(measured.routes())
    app.include_router(probes.routes(operations))
    app.include_router(configuration.routes(operations, masker), prefix=PREFIX)
    app.include_router(rollouts.routes(operations, masker), prefix=PREFIX)
    app.include_router(records.routes(operations), prefix=PREFIX)
    app.include_router(flow.routes(operations), prefix=PREFIX)
    app.include_router(services.routes(operations), prefix=PREFIX)
    app.include_router(tasks.routes(operations), prefix=PREFIX)
    app.include_router(audit.routes(log or AuditLog(Path(os.devnull))), prefix=PREFIX)
    app.include_router(streams.routes(live), prefix=PREFIX)
    return app


async def serve_operations(
    work: ApiWork, *, extend: Callable[[FastAPI, Operations, AuditRecords], None] = lambda *_: None
) -> None:
    """The API of one data directory, served until cancelled. `extend` adds to the application: the console.

    Raises Invalid where the address that was asked for cannot be listened on.
    """
    log, access = AuditLog(work.layout.audit), AccessLog(work.layout.access_log)

    def built() -> FastAPI:
        masker = Masker(mask_key(work.layout))
        app = create_app(
            work.operations, masker, log=log, access=access, identity=work.identity, spec=work.spec
        )
        extend(app, work.operations, log)
        return app

    # two hundred routes are seconds of work on a busy machine, and probes and router wait for this loop
    app = await asyncio.to_thread(built)
    try:
        async with local_tcp(app, work):
            await serve(app, work.layout.socket, work.listening)
    finally:
        await app.state.live.aclose()
        await asyncio.to_thread(access.close)


async def serve(app: FastAPI, socket_path: Path, listening: Callable[[], None] = lambda: None) -> None:
    """Serve until cancelled, then let requests under way end, and remove the socket.

    `listening` is called once: from then on everybody who connects is answered. A socket that somebody
    removes, or puts something in the place of, is made again within a second.

    Runs in the loop of the caller, who keeps its signal handlers. A socket left by a dead process is
    replaced: that nobody else serves here is held by the caller's lock. Raises Invalid when the path
    is too long for a socket.
    """
    await _serve(app, socket_path, listening)
    while True:
        try:
            make_private(socket_path.parent)
            await _serve(app, socket_path, lambda: _log.warning("the socket of the API was made again"))
        except OSError as error:
            _log.error("the socket of the API cannot be made again", reason=str(error))
            await asyncio.sleep(LOOK)


async def _serve(app: FastAPI, socket_path: Path, listening: Callable[[], None]) -> None:
    """Serve until cancelled, or until the socket is no longer in its place."""
    with _listening(socket_path) as listener:
        server = GuestServer(
            uvicorn.Config(
                app,
                http=PeerProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=GRACE,
            )
        )
        # A task of its own: a cancelled uvicorn leaves connections open, one that is asked ends well.
        running = asyncio.ensure_future(server.serve(sockets=[listener]))
        place = _place(socket_path)
        listening()
        try:
            while not (await asyncio.wait({running}, timeout=LOOK))[0]:
                if _place(socket_path) != place:
                    break
        finally:
            app.state.live.turn_away()
            server.should_exit = True
            await running


def _place(path: Path) -> tuple[int, int] | None:
    """What is there now."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        raise Invalid(
            f"the path of the socket is longer than {LONGEST_SOCKET} bytes: {path}",
            remedy="give a shorter --data-dir",
        )
    path.unlink(missing_ok=True)
    own: tuple[int, int] | None = None
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)  # nobody can connect before `listen`
        listener.listen(128)
        listener.setblocking(False)
        own = _place(path)
        yield listener
    finally:
        listener.close()
        if own is not None and _place(path) == own:
            path.unlink(missing_ok=True)

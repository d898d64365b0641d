"""The application on a TCP port, with TLS whose files may change while it is served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI

from phoenix_orch.kernel.errors import Invalid

GRACE = 10
"""Seconds that requests under way get at the end; a pod has 20."""
LOOK = 10.0
"""Seconds between two looks whether the files of the certificate were changed."""

_log = structlog.get_logger("phoenix.api")


async def serve_tcp(
    app: FastAPI,
    host: str,
    port: int,
    listening: Callable[[int], None],
    tls: tuple[Path, Path] | None = None,
) -> None:
    """Serve until cancelled, then let requests under way end.

    `listening` is called with the port, which 0 leaves to the system. `tls`: certificate chain and key, PEM.
    Raises Invalid where the address is taken or is none here, and for files that are no certificate and key.
    """
    with contextlib.closing(_bound(host, port)) as listener:
        context = _context(*tls) if tls is not None else None
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
        config.load()
        config.ssl = context
        server = _Server(config)
        running = asyncio.ensure_future(server.serve(sockets=[listener]))
        reloading = asyncio.ensure_future(_reload(context, *tls)) if context and tls else None
        listening(int(listener.getsockname()[1]))
        try:
            await asyncio.wait({running})
        finally:
            if reloading is not None:
                reloading.cancel()
            app.state.live.turn_away()
            server.should_exit = True
            await running


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Invalid(
            f"the API cannot listen on {host}:{port}: {error.strerror}", remedy="give another --listen"
        ) from error
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            f"{certificate} and {key} are no certificate with its key: {error.strerror or 'no PEM'}",
            remedy="give a chain and its key as PEM files",
        ) from None  # what is in the files is nobody's business
    return context


async def _reload(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Whoever connects from then on sees the new certificate; a pair that does not fit changes nothing."""
    files = (certificate, key)
    known = await asyncio.to_thread(_stamps, files)
    while True:
        await asyncio.sleep(LOOK)
        now = await asyncio.to_thread(_stamps, files)
        if now == known:
            continue
        try:
            await asyncio.to_thread(context.load_cert_chain, certificate, key)
        except (OSError, ssl.SSLError):
            _log.warning("the new certificate of the API cannot be used", certificate=str(certificate))
        else:
            _log.info("the API has a new certificate", certificate=str(certificate))
        known = now


def _stamps(files: tuple[Path, ...]) -> list[tuple[int, int] | None]:
    found: list[tuple[int, int] | None] = []
    for file in files:
        try:
            seen = file.stat()
            found.append((seen.st_mtime_ns, seen.st_ino))
        except OSError:
            found.append(None)
    return found


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process that serves."""
        yield

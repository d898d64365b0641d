"""The application on a TCP port, with TLS whose files may change while it is served."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.runtime.port_owner import listener_on

GRACE = 10
"""Seconds that requests under way get at the end; a pod has 20."""
LOOK = 10.0
"""Seconds between two looks whether the files of the certificate were changed."""

_log = structlog.get_logger("phoenix.api")


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM."""

    certificate: Path
    """The chain, the server's own first."""
    key: Path
    client_ca: Path | None = None
    """Of the certificates that clients have to have; None: they need none."""

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.certificate, self.key, *((self.client_ca,) if self.client_ca else ()))


async def serve_tcp(
    app: FastAPI,
    host: str,
    port: int,
    listening: Callable[[int], None],
    tls: Tls | None = None,
) -> None:
    """Serve until cancelled, then let requests under way end.

    `listening` is called with the port, which 0 leaves to the system.
    Raises Invalid where the address is taken or is none here, and for files that are no certificate and key.
    """
    await serve_listener(app, bound(host, port), listening, tls)


async def serve_listener(
    app: FastAPI, listener: socket.socket, listening: Callable[[int], None], tls: Tls | None = None
) -> None:
    """As `serve_tcp`, on a socket that is `bound`, and closed at the end."""
    with contextlib.closing(listener):
        context = context_of(tls) if tls is not None else None
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
        reloading = asyncio.ensure_future(_reload(context, tls)) if context and tls else None
        listening(int(listener.getsockname()[1]))
        try:
            await asyncio.wait({running})
        finally:
            if reloading is not None:
                reloading.cancel()
            app.state.live.turn_away()
            server.should_exit = True
            await running


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there; an empty host is every interface.

    Raises Invalid where the address is taken, and says by whom, or is none here.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)  # another one that is bound alike is noticed here
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        why = f"{listener_on(port)} listens there" if taken else error.strerror
        raise Invalid(
            f"the API cannot listen on {host or '*'}:{port}: {why}",
            remedy="give another address with --listen, or --listen off",
        ) from error
    listener.setblocking(False)
    return listener


def context_of(tls: Tls) -> ssl.SSLContext:
    """Raises Invalid for files that are no certificate with its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        _load(context, tls)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            f"{tls.certificate} and {tls.key} are no certificate with its key: {error.strerror or 'no PEM'}",
            remedy="give a chain and its key as PEM files",
        ) from None  # what is in the files is nobody's business
    return context


def _load(context: ssl.SSLContext, tls: Tls) -> None:
    """Raises OSError, SSLError; of a pair that does not fit nothing is taken."""
    context.load_cert_chain(tls.certificate, tls.key)
    if tls.client_ca is not None:
        context.load_verify_locations(tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED


async def _reload(context: ssl.SSLContext, tls: Tls) -> None:
    """Whoever connects from then on sees the new certificate; a pair that does not fit changes nothing."""
    known = await asyncio.to_thread(_stamps, tls.files)
    while True:
        await asyncio.sleep(LOOK)
        now = await asyncio.to_thread(_stamps, tls.files)
        if now == known:
            continue
        try:
            await asyncio.to_thread(_load, context, tls)
        except (OSError, ssl.SSLError):
            _log.warning("the new certificate of the API cannot be used", certificate=str(tls.certificate))
        else:
            _log.info("the API has a new certificate", certificate=str(tls.certificate))
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

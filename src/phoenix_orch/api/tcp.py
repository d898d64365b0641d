"""The application on a TCP port, with TLS whose files may change while it is served."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable

import structlog
import uvicorn
from fastapi import FastAPI

from phoenix_orch.api.guest_server import GuestServer
from phoenix_orch.api.tls import Renewed, Tls
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.runtime.port_owner import listener_on

GRACE = 10
"""Seconds that requests under way get at the end; a pod has 20."""

_log = structlog.get_logger("phoenix.api")


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
        renewed = None if tls is None else Renewed(tls)
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
        config.ssl = None if renewed is None else renewed.context
        server = GuestServer(config)
        running = asyncio.ensure_future(server.serve(sockets=[listener]))
        renewing = None if renewed is None else asyncio.ensure_future(renewed.run())
        listening(int(listener.getsockname()[1]))
        try:
            await asyncio.wait({running})
        finally:
            if renewing is not None:
                renewing.cancel()
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

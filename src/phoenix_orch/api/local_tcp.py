"""The API and the console of one machine on a TCP port, beside the unix socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
from fastapi import FastAPI

from phoenix_orch.api.tcp import bound, serve_listener
from phoenix_orch.api.tls import Tls, context_of
from phoenix_orch.kernel.errors import Invalid, PhoenixError
from phoenix_orch.orchestrator.api_spec import DEFAULT_API, OFF, ApiSpec
from phoenix_orch.orchestrator.api_work import ApiWork

_log = structlog.get_logger("phoenix")


@contextlib.asynccontextmanager
async def local_tcp(app: FastAPI, work: ApiWork) -> AsyncIterator[None]:
    """Answer there while the body runs.

    An address that nobody chose may be taken by the Phoenix of another data directory: then there is none,
    and the log says so. Raises Invalid where one was chosen, and for files of TLS that are none.
    """
    spec = work.spec
    if spec.listen == OFF:
        yield
        return
    tls = tls_of(spec)
    if tls is not None:
        await asyncio.to_thread(context_of, tls)  # what is wrong with it is told before anything is served
    try:
        listener = bound(spec.host, spec.port)
    except Invalid as error:
        if spec.listen != DEFAULT_API:
            raise
        _log.warning(error.message, remedy=f"the unix socket answers; {error.remedy}")
        yield
        return
    await _first_token(work)

    def answering(port: int) -> None:
        address = address_of(spec, port)
        work.answering(address)
        _log.info("answers the API and the console", address=address)

    async with asyncio.TaskGroup() as group:
        serving = group.create_task(serve_listener(app, listener, answering, tls))
        yield
        serving.cancel()


async def _first_token(work: ApiWork) -> None:
    """A full disk keeps Phoenix from nothing else."""
    try:
        made = await work.identity.make_first()
    except PhoenixError as error:
        _log.warning("no first token was made", reason=error.message, remedy=error.remedy)
        return
    if made is not None:
        _log.info("a first token was made for the API over TCP", file=str(made))


def address_of(spec: ApiSpec, port: int) -> str:
    """Where this machine reaches it."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(spec.host, spec.host)  # noqa: S104
    shown = f"[{host}]" if ":" in host else host
    return f"{'http' if spec.tls is None else 'https'}://{shown}:{port}"


def tls_of(spec: ApiSpec) -> Tls | None:
    if spec.tls is None:
        return None
    authority = spec.tls.client_ca
    return Tls(Path(spec.tls.certificate), Path(spec.tls.key), None if authority is None else Path(authority))

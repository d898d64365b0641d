"""Requests over HTTP, each with an end in time, and with failures told apart: never sent, or unanswered.

Three pools of connections, so that neither watches nor ordinary calls can keep the abort path waiting
for a connection (rule R2).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx2
import msgspec
from lightkube.config.client_adapter import user_auth, verify_cluster
from lightkube.core.exceptions import ConfigError

from phoenix_orch.kernel.errors import Invalid, PhoenixError
from phoenix_orch.kube.config import Target
from phoenix_orch.kube.errors import Call, Unanswered, Unreachable
from phoenix_orch.kube.exec_login import ExecLogin
from phoenix_orch.runtime.cancellation import cancellation_kept

CONNECT_TIMEOUT = 3.0


class Pool(StrEnum):
    """Connections that are not shared with other pools."""

    NORMAL = "normal"
    URGENT = "urgent"
    WATCH = "watch"


_LIMITS = {
    Pool.NORMAL: httpx2.Limits(max_connections=16, max_keepalive_connections=4, keepalive_expiry=30.0),
    # of idle connections, which may be dead without a sign, an urgent call meets one at most
    Pool.URGENT: httpx2.Limits(max_connections=8, max_keepalive_connections=1, keepalive_expiry=10.0),
    Pool.WATCH: httpx2.Limits(max_connections=None, max_keepalive_connections=0),
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as it goes over the wire."""

    method: str
    path: str
    parameters: Mapping[str, str]
    body: Any = None
    content_type: str = "application/json"
    accept: str = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """The connections to one API server."""

    def __init__(self, target: Target, *, user_agent: str) -> None:
        self.target = target
        self._user_agent = user_agent
        try:
            context, auth = tls_context(target), _auth(target)
        except (ConfigError, ssl.SSLError, OSError, ValueError) as error:
            raise Invalid(
                f"the certificates or the user of {target.server} cannot be used: {type(error).__name__}",
                remedy="look at the kubeconfig: kubectl config view",
            ) from error
        self._pools = {pool: self._client(context, auth, limits) for pool, limits in _LIMITS.items()}

    async def close(self) -> None:
        for client in self._pools.values():
            await client.aclose()

    async def ask(self, request: Request, call: Call, *, pool: Pool, within: float) -> Answer:
        """Send it and read the whole answer, in `within` seconds.

        Raises Unreachable when it was not sent, Unanswered when it may have been.
        """
        with self._translated(call), cancellation_kept():
            async with asyncio.timeout(within):
                response = await self._pools[pool].send(self._built(request, pool, within))
        return Answer(response.status_code, response.headers, response.content)

    @contextlib.asynccontextmanager
    async def stream(self, request: Request, call: Call, *, within: float) -> AsyncIterator[Streamed]:
        """Send it and give the answer as it comes; `within` seconds are for its head."""
        with self._translated(call), cancellation_kept():
            async with asyncio.timeout(within):
                client = self._pools[Pool.WATCH]
                response = await client.send(self._built(request, Pool.WATCH, within), stream=True)
        try:
            yield Streamed(response, call, self)
        finally:
            # a connection whose other end is silent would not answer to a farewell either
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1.0):
                    await response.aclose()

    def _client(self, context: ssl.SSLContext, auth: Any, limits: httpx2.Limits) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            base_url=self.target.server,
            auth=auth,
            trust_env=False,
            headers={"User-Agent": self._user_agent},
            transport=httpx2.AsyncHTTPTransport(
                verify=context,
                trust_env=False,
                limits=limits,
                socket_options=_KEEP_ALIVE,
            ),
        )

    def _built(self, request: Request, pool: Pool, within: float) -> httpx2.Request:
        headers = {"Accept": request.accept}
        content = None
        if request.body is not None:
            content = msgspec.json.encode(request.body)
            headers["Content-Type"] = request.content_type
        limits = httpx2.Timeout(
            within, connect=min(within, CONNECT_TIMEOUT), read=None if pool is Pool.WATCH else within
        )
        return self._pools[pool].build_request(
            request.method,
            request.path,
            params=dict(request.parameters),
            content=content,
            headers=headers,
            timeout=limits,
        )

    @contextlib.contextmanager
    def _translated(self, call: Call) -> Any:
        try:
            yield
        except PhoenixError:
            raise
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise Unreachable(
                f"the API server at {self.target.server} cannot be reached ({call}): {_said(error)}",
                remedy="see whether it runs and can be reached from here: kubectl version",
            ) from error
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:  # TimeoutError is an OSError
            raise Unanswered(
                f"the API server at {self.target.server} gave no answer ({call}): {_said(error)}",
                remedy="see whether it runs and can be reached from here: kubectl version",
            ) from error


class Streamed:
    """An answer that is still coming."""

    def __init__(self, response: httpx2.Response, call: Call, wire: Wire) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._call = call
        self._wire = wire

    async def read(self, within: float) -> bytes:
        """The whole rest."""
        with self._wire._translated(self._call):  # noqa: SLF001 - two halves of one idea
            async with asyncio.timeout(within):
                return await self._response.aread()

    async def pieces(self, silence: float) -> AsyncIterator[bytes]:
        """Bytes as they come. Raises Unanswered after `silence` seconds without any, or a break."""
        pieces = self._response.aiter_bytes()
        while True:
            with self._wire._translated(self._call):  # noqa: SLF001
                async with asyncio.timeout(silence):
                    piece = await anext(pieces, None)
            if piece is None:
                return
            yield piece


def tls_context(target: Target) -> ssl.SSLContext:
    """How the API server is trusted, and shown who the user is. Raises OSError, ConfigError."""
    single = target.single
    assert single.user is not None
    return verify_cluster(single.cluster, single.user, single.abs_file, trust_env=False)


def _auth(target: Target) -> httpx2.Auth | None:
    cluster, user = target.single.cluster, target.single.user
    assert user is not None
    if user.exec is not None and user.token is None and user.token_file is None:
        known = {"server": cluster.server, "certificate-authority-data": cluster.certificate_auth_data}
        return ExecLogin(user.exec, {name: value for name, value in known.items() if value})
    return user_auth(user)


def _said(error: Exception) -> str:
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


def _options() -> list[tuple[int, int, int]]:
    """A peer that is gone without a word is noticed within a minute, also between two bytes of a watch."""
    wanted = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
    return [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        *(
            (socket.IPPROTO_TCP, getattr(socket, name), value)
            for name, value in wanted.items()
            if hasattr(socket, name)
        ),
    ]


_KEEP_ALIVE = _options()

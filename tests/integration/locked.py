"""The API as it is served over TCP: with tokens, sessions and everything that is in front of a route."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from fastapi import FastAPI
from tests.integration.fake_phoenix import FakeOperations

from phoenix_orch.api.server import create_app
from phoenix_orch.api.tcp import bound, serve_listener
from phoenix_orch.api.tls import Tls
from phoenix_orch.console.install import install
from phoenix_orch.orchestrator.api_spec import ApiSpec
from phoenix_orch.orchestrator.identity import Doorkeeper
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.recording import origin
from phoenix_orch.security.audit_log import AuditLog
from phoenix_orch.security.recorder import Recorder
from phoenix_orch.security.rights import EVERYWHERE, Grant, Kind, Principal, Role

HOST = "127.0.0.1:7007"
OWNER = Principal("owner", Kind.USER, (Grant(Role.ADMIN),))


class Locked:
    """One Phoenix behind its doors."""

    def __init__(
        self, data_dir: Path, spec: ApiSpec | None = None, operations: FakeOperations | None = None
    ) -> None:
        layout = Layout(data_dir)
        layout.make()
        self.moved = timedelta()
        self.log = AuditLog(layout.audit)
        self.recorder = Recorder(self.log, origin=origin, patience=60)
        self.identity = Doorkeeper(layout, self.recorder, now=lambda: datetime.now(UTC) + self.moved)
        self.operations = operations or FakeOperations()
        self.app: FastAPI = create_app(
            self.operations, log=self.log, identity=self.identity, spec=spec or ApiSpec()
        )
        install(self.app, self.operations, self.log)

    async def token(self, role: Role, namespace: str = EVERYWHERE, *, by: Principal = OWNER) -> str:
        made = await self.identity.tokens.create(
            f"{role.value}s", (Grant(role, namespace),), by=by, lasting=None
        )
        return made.text

    def http(self, token: str | None = None, *, host: str = HOST, scheme: str = "http") -> httpx.AsyncClient:
        """Somebody elsewhere."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=("192.0.2.7", 4711))
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return httpx.AsyncClient(transport=transport, base_url=f"{scheme}://{host}", headers=headers)

    @contextlib.asynccontextmanager
    async def served(self, tls: Tls | None = None) -> AsyncIterator[str]:
        """Its address on a real port."""

        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        listener = bound("127.0.0.1", 0)
        task = asyncio.create_task(serve_listener(self.app, listener, port.set_result, tls))
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{await port}"
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self.app.state.live.aclose()

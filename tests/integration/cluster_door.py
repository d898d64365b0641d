"""The API of two replicas of a cluster on one Valkey, with an API server that knows one token."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from redis.asyncio import Redis
from tests.integration.fake_phoenix import FakeOperations

from phoenix_orch.api.in_cluster import app_of, serve_in_cluster
from phoenix_orch.api.tcp import bound
from phoenix_orch.kube.resources import Object, Resource
from phoenix_orch.orchestrator.approving import Approving
from phoenix_orch.orchestrator.audited_tasks import AuditedTasks
from phoenix_orch.orchestrator.cluster.approvals import SharedApprovals
from phoenix_orch.orchestrator.cluster.file import ClusterFile, destroying
from phoenix_orch.orchestrator.cluster.logins import SharedLogins
from phoenix_orch.orchestrator.cluster.seconded_tasks import SecondedTasks
from phoenix_orch.orchestrator.cluster.sessions import SharedSessions
from phoenix_orch.orchestrator.cluster.tokens import SharedTokens
from phoenix_orch.orchestrator.kubernetes import ApiParts
from phoenix_orch.orchestrator.recording import origin
from phoenix_orch.orchestrator.task_engine import TaskEngine
from phoenix_orch.runtime.valkey_client import connect
from phoenix_orch.security.audit_log import AuditLog
from phoenix_orch.security.kube_review import TOKEN_REVIEWS, KubeReviews
from phoenix_orch.security.recorder import Recorder

NAMESPACE = "shops"
PREFIX = f"phoenix:{NAMESPACE}:"
HOST = "phoenix.example:7007"
"""Of the Service in front of both."""


def connected(opened: AsyncExitStack, url: str) -> Redis:
    """A client that `opened` closes."""
    client = connect(url)
    opened.push_async_callback(client.aclose)
    return client


class ApiServer:
    """Knows tokens of the form `NAME:RIGHT,RIGHT`."""

    namespace = NAMESPACE

    async def post(self, resource: Resource, body: Object, *, namespace: str = "") -> Object:
        spec = body["spec"]
        if resource == TOKEN_REVIEWS:
            name, colon, rights = spec["token"].partition(":")
            user = {"username": name, "groups": rights.split(",")}
            return {"status": {"authenticated": bool(colon), "user": user}}
        return {"status": {"allowed": spec["resourceAttributes"]["verb"] in spec["groups"]}}


class ClusterDoor:
    """One replica."""

    def __init__(
        self,
        opened: AsyncExitStack,
        folder: Path,
        url: str,
        api: dict[str, Any] | None = None,
        *,
        prefix: str = PREFIX,
        tasks: dict[str, Any] | None = None,
    ) -> None:
        """`opened` closes it. `api`, `tasks`: as phoenix.yaml has them. Nobody runs what is asked for."""
        folder.mkdir()
        self.moved = timedelta()
        self.client = connected(opened, url)
        self.log = AuditLog(folder / "audit")
        acts = Recorder(self.log, origin=origin, patience=60)
        file = ClusterFile.model_validate({"api": api or {}, "tasks": tasks or {}})
        approving = Approving(SharedApprovals(self.client, prefix=prefix), acts, now=self.now)
        engine = TaskEngine(url, lambda: file, prefix=f"{prefix}tasks:")
        opened.push_async_callback(engine.close)
        operations = FakeOperations()
        seconded = SecondedTasks(engine.tasks, approving, lambda: destroying(file))
        operations.tasks = AuditedTasks(seconded, acts)
        self.parts = ApiParts(
            operations=operations,
            reviews=KubeReviews(ApiServer()),
            listen=("127.0.0.1", 0),
            tls=None,
            spec=file.api.spec(),
            audit=self.log,
            acts=acts,
            sessions=SharedSessions(self.client, prefix=prefix, now=self.now),
            tokens=SharedTokens(self.client, prefix=prefix),
            approving=approving,
            logins=SharedLogins(self.client, prefix=prefix),
            namespace=NAMESPACE,
        )
        self.app: FastAPI = app_of(self.parts)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.moved

    @contextlib.asynccontextmanager
    async def served(self, tls: tuple[Path, Path] | None = None) -> AsyncIterator[str]:
        """Its address on a real port, as a pod serves it."""
        with contextlib.closing(bound("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        parts = replace(self.parts, listen=("127.0.0.1", port), tls=tls)
        serving = asyncio.create_task(serve_in_cluster(parts))
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        try:
            async with asyncio.timeout(20):
                while not serving.done() and not await _listens(port):
                    await asyncio.sleep(0.01)
            if serving.done():
                await serving
            yield url
        finally:
            serving.cancel()
            await asyncio.wait([serving])

    def http(self, token: str | None = None, *, cookies: httpx.Cookies | None = None) -> httpx.AsyncClient:
        """A browser elsewhere; with the cookies of another one, where they are given."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=("192.0.2.7", 4711))
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        made = httpx.AsyncClient(transport=transport, base_url=f"https://{HOST}", headers=headers)
        if cookies is not None:
            made.cookies.jar = cookies.jar
        return made


def two_doors(
    opened: AsyncExitStack, folder: Path, url: str, api: dict[str, Any] | None = None, **more: Any
) -> tuple[ClusterDoor, ClusterDoor]:
    """Two replicas of the same Phoenix; `more`: as of each."""
    one, other = (ClusterDoor(opened, folder / name, url, api, **more) for name in ("one", "other"))
    return one, other


async def call(door: ClusterDoor, token: str, path: str, body: Any = None) -> httpx.Response:
    """One request to the API of a replica: a GET, or a POST of `body`."""
    async with door.http(token) as http:
        return await http.request("GET" if body is None else "POST", f"/api/v1/{path}", json=body)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True

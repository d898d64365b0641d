"""Ask an instance's health path."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

import httpx

from phoenix_orch.workload.spec import Health


class HealthProbe:
    """GET on loopback. A new connection each time: an instance is ready when it accepts, too."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(
            trust_env=False,  # a proxy has no business between us and loopback
            verify=False,  # noqa: S501 - no TLS is spoken; loading certificates costs time and memory
            limits=httpx.Limits(max_keepalive_connections=0),
            headers={"user-agent": "phoenix-health", "connection": "close"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def answers(self, port: int, health: Health) -> bool:
        """2xx within the time-out. The body is not read."""
        limit = health.timeout.total_seconds()
        try:
            async with (
                asyncio.timeout(limit),
                self._client.stream("GET", f"http://127.0.0.1:{port}{health.path}", timeout=limit) as answer,
            ):
                return answer.is_success
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError):
            return False

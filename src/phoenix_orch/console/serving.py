"""The API and the console in one application, served as the API is, and the status page beside it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from phoenix_orch.api import server
from phoenix_orch.console.install import install
from phoenix_orch.console.status_writer import keep_status
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.operations_port import Operations


async def serve_operations(operations: Operations, socket_path: Path, *more: Any, **settings: Any) -> None:
    """As `api.server.serve_operations`, with the console in it."""
    keeping = asyncio.ensure_future(keep_status(operations, Layout(socket_path.parent)))
    try:
        await server.serve_operations(operations, socket_path, *more, **settings, extend=install)
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping

"""The API and the console in one application, served as the API is, and the status page beside it."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

from phoenix_orch.api import server
from phoenix_orch.console.install import install
from phoenix_orch.console.status_writer import keep_status
from phoenix_orch.orchestrator.api_work import ApiWork
from phoenix_orch.orchestrator.recovery_look import StoredRecovery


async def serve_operations(work: ApiWork) -> None:
    """As `api.server.serve_operations`, with the console in it."""
    keeping = asyncio.ensure_future(keep_status(work.operations, work.layout))
    try:
        backed_up = StoredRecovery(work.layout)
        await server.serve_operations(work, extend=partial(install, backed_up=backed_up))
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping

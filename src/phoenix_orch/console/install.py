"""Puts the console into the application that serves the API: same process, same doors."""

from __future__ import annotations

from fastapi import FastAPI

from phoenix_orch.console import acts, assets, pages
from phoenix_orch.console.csrf import Csrf
from phoenix_orch.console.judging import Judging
from phoenix_orch.console.live import Parts
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.security.audit_log import AuditLog


def install(app: FastAPI, operations: Operations, log: AuditLog | None = None) -> None:  # noqa: ARG001
    """Add pages, forms, streams and files below `/console`; `/` leads there."""
    judging, csrf = Judging(operations), Csrf()
    parts = Parts(operations, judging)
    app.state.live.beside.append(parts.turn_away)
    app.include_router(pages.front())
    app.include_router(assets.routes())
    app.include_router(pages.routes(operations, judging, parts, csrf))
    app.include_router(acts.routes(operations, csrf))

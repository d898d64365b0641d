"""Puts the console into the application that serves the API: same process, same doors."""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import FastAPI

from phoenix_orch.console import acts, assets, pages, recovery, trail, work
from phoenix_orch.console.csrf import Csrf
from phoenix_orch.console.error_pages import ErrorPages
from phoenix_orch.console.frame import Pages
from phoenix_orch.console.judging import Judging
from phoenix_orch.console.live import Parts
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.orchestrator.recovery_look import NoRecovery, Recovery
from phoenix_orch.security.audit_log import AuditLog, AuditRecords


def install(
    app: FastAPI,
    operations: Operations,
    log: AuditRecords | None = None,
    backed_up: Recovery | None = None,
) -> None:
    """Add pages, forms, streams and files below `/console`; `/` leads there. `log`: what its search looks
    into; left out: nothing. `backed_up`: what there is to recover."""
    judging, csrf = Judging(operations), Csrf()
    page = Pages(csrf)
    parts = Parts(operations, judging)
    app.state.stylesheet = assets.address("console.css")  # for the page that is seen before a login
    app.state.live.beside.append(parts)
    app.add_middleware(ErrorPages)
    app.include_router(pages.front())
    app.include_router(assets.routes())
    app.include_router(pages.routes(operations, judging, parts, page))
    app.include_router(acts.routes(operations, csrf))
    app.include_router(work.routes(operations, page, csrf))
    app.include_router(recovery.routes(backed_up or NoRecovery(), page))
    app.include_router(trail.routes(log or AuditLog(Path(os.devnull)), page))

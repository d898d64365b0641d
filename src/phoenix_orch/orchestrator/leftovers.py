"""What runs for a data directory without a Phoenix. Children outlive it on purpose (ADR 0001); when none
comes back, nobody looks after them."""

from __future__ import annotations

import contextlib

import psutil

from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.runtime.valkey_server import ServerInfo
from phoenix_orch.traffic import traefik_api
from phoenix_orch.workload import processes


def running(layout: Layout) -> list[str]:
    """Instances, router and store as `name (pid N)`, in the order in which `phoenix down` ends them."""
    found = []
    router = traefik_api.running(layout.router)
    if router is not None:
        found.append(f"traefik (pid {router.pid})")
    found += [
        f"{marked.instance} (pid {marked.process.pid})"
        for marked in processes.marked(layout.root)
        if marked.leads
    ]
    store = _store(layout)
    if store is not None:
        found.append(f"valkey-server (pid {store})")
    return found


def _store(layout: Layout) -> int | None:
    try:
        info = ServerInfo.model_validate_json((layout.valkey / "valkey.json").read_bytes())
    except (OSError, ValueError):
        return None
    if info.process is None or not psutil.pid_exists(info.process.pid):
        return None
    with contextlib.suppress(psutil.Error):
        if "valkey" in psutil.Process(info.process.pid).name():
            return info.process.pid
    return None

"""What runs for a data directory without a Phoenix. Children outlive it on purpose (ADR 0001); when none
comes back, nobody looks after them."""

from __future__ import annotations

from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.runtime.valkey_server import ValkeyServer
from phoenix_orch.traffic import traefik_api
from phoenix_orch.workload import descendants, processes


def running(layout: Layout) -> list[str]:
    """Instances, router and store as `name (pid N)`, in the order in which `phoenix down` ends them."""
    router = traefik_api.running(layout.router)
    routers = {one.pid for one in traefik_api.processes(layout.router)} | ({router.pid} if router else set())
    found = [f"traefik (pid {pid})" for pid in sorted(routers)]
    found += [
        f"{marked.instance} (pid {marked.process.pid})"
        for marked in processes.marked(layout.root)
        if marked.leads
    ]
    found += [
        f"what {instance or 'an instance'} left (pid {process.pid})"
        for instance, process in descendants.living(layout.root)
    ]
    store = ValkeyServer(layout.valkey).process()
    if store is not None:
        found.append(f"valkey-server (pid {store.pid})")
    return found

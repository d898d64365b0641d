"""`phoenix serve`: one component in a process of its own, beside `phoenix up` or instead of a part of it.

A component that another process runs already is a standby: it takes over when that one dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from phoenix_orch.kernel.errors import Invalid, Unavailable
from phoenix_orch.observability.tracing_exporter import exported
from phoenix_orch.orchestrator.api_work import ServeApi
from phoenix_orch.orchestrator.components import (
    Parts,
    open_parts,
    run_health_validator,
    run_rollback_controller,
)
from phoenix_orch.orchestrator.layout import Layout, open_clock
from phoenix_orch.orchestrator.standby import is_led
from phoenix_orch.orchestrator.up import ending_signals, run_up, until
from phoenix_orch.runtime.logs import configure_logs
from phoenix_orch.runtime.memory import return_large_blocks
from phoenix_orch.runtime.stuck_loop import stuck_loop_told
from phoenix_orch.runtime.valkey_server import ValkeyServer

_BESIDE: Mapping[str, Callable[[Parts], Coroutine[Any, Any, None]]] = {
    "health-validator": run_health_validator,
    "rollback-controller": run_rollback_controller,
}
COMPONENTS = ("orchestrator", *_BESIDE)


def run_serve(
    component: str,
    data_dir: Path,
    store_url: str | None,
    speed: float,
    serve_api: ServeApi,
    *,
    listen: str | None = None,
) -> int:
    """Run one component until a signal comes. Raises PhoenixError where it cannot start."""
    configure_logs()
    return_large_blocks()
    if component == "orchestrator":
        return run_up(None, data_dir, speed, serve_api, store_url=store_url, others=False, listen=listen)
    if component not in _BESIDE:
        raise Invalid(f"there is no component {component!r}", remedy=f"one of: {', '.join(COMPONENTS)}")
    layout = Layout(data_dir.expanduser().absolute())
    if not layout.made:
        raise Unavailable(
            f"there is no Phoenix in {layout.root}",
            remedy="start `phoenix up` there first, or name --data-dir",
        )
    with exported(component):
        return asyncio.run(_serve(component, layout, store_url, speed))


async def _serve(component: str, layout: Layout, store_url: str | None, speed: float) -> int:
    clock = open_clock(layout, speed)  # another speed is refused before anything is started
    valkey = ValkeyServer(layout.valkey)
    ours = store_url is None and not valkey.runs()
    try:
        url = store_url or (await valkey.ensure()).url
        async with open_parts(layout, clock, url, speed) as parts:
            with ending_signals() as stop, stuck_loop_told():
                return await until(stop, [_BESIDE[component](parts)])
    finally:
        if ours and not any(is_led(layout.lock(name)) for name in ("phoenix", *_BESIDE)):
            await valkey.stop()  # nobody else uses it

"""What tests of the process workload share: real processes of a small service, on ports of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil

from phoenix_orch.testing.workload_contract import SERVICE
from phoenix_orch.workload.ports import PortRange
from phoenix_orch.workload.process import ProcessWorkload
from phoenix_orch.workload.settings import ProcessSettings
from phoenix_orch.workload.spec import Health, ServiceSpec
from phoenix_orch.workload.workload import Instance

SHOP = Path(__file__).with_name("shop.py")
HEALTH = Health(interval=timedelta(milliseconds=100), timeout=timedelta(seconds=1), failures=3)


def ports() -> PortRange:
    """A range of 200 that other test workers do not use."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    return PortRange(20000 + 200 * (worker % 40), 20199 + 200 * (worker % 40))


def settings(**changes: Any) -> ProcessSettings:
    return ProcessSettings(
        **{"ports": ports(), "housekeeping": 0.1, "memory_interval": 0.1, "notice": 0.1, "stray_grace": 1.0}
        | changes
    )


def shop(*options: str, version: str = "1", drain: float = 3.0, **changes: Any) -> ServiceSpec:
    """A service that runs the shop; `{version}` makes revisions differ."""
    command = (sys.executable, str(SHOP), "--port", "{port}", "--version", "{version}", *options)
    fields: dict[str, Any] = {
        "version": version,
        "command": command,
        "health": HEALTH,
        "drain": timedelta(seconds=drain),
        "cwd": str(SHOP.parent),
    }
    return ServiceSpec(**fields | changes)


class ProcessStage:
    """The contract's hand on real processes."""

    def __init__(self, workload: ProcessWorkload) -> None:
        self.workload = workload

    def spec(self, version: str, *, ready: bool = True) -> ServiceSpec:
        return shop("--ready-after", "0" if ready else "-1", version=version)

    async def crash(self, instance: Instance) -> None:
        with contextlib.suppress(httpx.HTTPError):
            await get(instance, "/crash")

    async def sicken(self, instance: Instance) -> None:
        await get(instance, "/sick")

    async def heal(self, instance: Instance) -> None:
        await get(instance, "/well")


@contextlib.asynccontextmanager
async def supervised(data_dir: Path, **changes: Any) -> AsyncIterator[ProcessWorkload]:
    """A workload that is supervised while the body runs, and ended with all its processes after it."""
    workload = ProcessWorkload(data_dir, settings=settings(**changes), base=SHOP.parent)
    supervision = asyncio.create_task(workload.run())
    try:
        yield workload
    finally:
        if not supervision.done():
            await workload.stop()
        await supervision
    assert not marked_pids(data_dir)


async def get(instance: Instance, path: str = "/") -> str:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        return (await client.get(f"http://127.0.0.1:{instance.port}{path}")).text


async def eventually(what: Callable[[], Any], within: float = 15.0) -> Any:
    """The first true answer of `what`."""
    deadline = time.monotonic() + within
    while not (found := what()):
        assert time.monotonic() < deadline, "did not come in time"
        await asyncio.sleep(0.01)
    return found


def marked_pids(data_dir: Path) -> set[int]:
    """Every living process that bears the mark of `data_dir`, found without the code under test."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            mark = process.environ().get("PHOENIX_DATA_DIR")
            if mark == str(data_dir.resolve()) and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process.pid)
    return found


__all__ = ["SERVICE", "ProcessStage", "eventually", "get", "marked_pids", "settings", "shop", "supervised"]

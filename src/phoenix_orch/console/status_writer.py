"""Keeps the memory of the status page, and writes the page where the configuration says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog
from pydantic import ValidationError

from phoenix_orch.console.status_page import LATEST, TITLE, Facts, pages, well_now, write
from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.orchestrator.kept_config import read_kept
from phoenix_orch.orchestrator.layout import Layout, write_whole
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.orchestrator.status_days import StatusDays, looked
from phoenix_orch.rollout.status import Release
from phoenix_orch.runtime.faults import Faults

LOOK = 30.0
"""Real seconds between two looks."""


async def keep_status(operations: Operations, layout: Layout, every: float = LOOK) -> None:
    """Look, remember, write; until cancelled. What goes wrong is told once and tried again."""
    faults = Faults(structlog.get_logger("phoenix"))
    kept = await asyncio.to_thread(read_days, layout.status_days)
    while True:
        await asyncio.sleep(every)
        try:
            kept = await look(operations, layout, kept)
        except (PhoenixError, OSError) as error:
            faults.tell("status page", error=error)
        else:
            faults.mended("status page")


async def look(operations: Operations, layout: Layout, kept: StatusDays) -> StatusDays:
    """One look at everything: what is remembered from now on. Raises PhoenixError and OSError."""
    now = datetime.now(UTC)
    info, services = await asyncio.gather(operations.info(), operations.services())
    parts = well_now(services, info["components"])
    kept = looked(kept, now.date(), parts)
    await asyncio.to_thread(write_whole, layout.status_days, kept.model_dump_json(by_alias=True))
    config = await asyncio.to_thread(read_kept, layout.config)
    if config is not None and config.status_page is not None:
        facts = Facts(now, parts, await _releases(operations))
        files = await asyncio.to_thread(pages, facts, kept, config.status_page.title or TITLE)
        await asyncio.to_thread(write, Path(config.status_page.directory), files)
    return kept


def read_days(path: Path) -> StatusDays:
    """What is remembered; nothing where that was lost or damaged: it is only shown."""
    try:
        return StatusDays.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError):
        return StatusDays()


async def _releases(operations: Operations) -> list[tuple[str, Release]]:
    found: list[tuple[str, Release]] = []
    for view in await operations.views():
        name = view.rollout.name
        found += [(name, one) for one in await operations.history(name, LATEST)]
    return newest(found)


def newest(releases: Sequence[tuple[str, Release]]) -> list[tuple[str, Release]]:
    """Those that ended last first."""
    return sorted(releases, key=lambda pair: pair[1].ended, reverse=True)

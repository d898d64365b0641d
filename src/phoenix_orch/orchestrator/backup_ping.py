"""The call to who watches from outside that backups go on being made."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.recovery.dead_man import Standing, address, held_up_by
from phoenix_orch.tasks.context import TaskContext

if TYPE_CHECKING:
    from phoenix_orch.orchestrator.backups import Backups
    from phoenix_orch.recovery.catalog import View

PATIENCE = 10.0
"""Seconds."""


async def ping(backups: Backups, views: Sequence[View], component: str, context: TaskContext) -> None:
    """After a good backup of `component`. That it cannot be told fails nothing, and the log of the task says
    so, without the address: who knows it can call in our name."""
    template = backups.spec.ping
    if template is None:
        return
    here = await asyncio.to_thread(_here, backups, views)
    standings = [_standing(backups, view) for view in views if view.scope.component in here]
    if late := held_up_by(template, standings, datetime.now(UTC)):
        await context.log(f"no ping: {', '.join(late)} has no good backup that is fresh")
        return
    try:
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            (await client.get(address(template, component))).raise_for_status()
    except httpx.HTTPStatusError as error:
        await context.log(f"the ping was answered with {error.response.status_code}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        await context.log(f"the ping could not be sent: {type(error).__name__}")


def _here(backups: Backups, views: Sequence[View]) -> set[str]:
    """What is backed up here. Of claims that are not there, or not to be looked up, all that were stored."""
    found = set[str]()
    for component in backups.sources():
        try:
            found.update(backups.members(component))
        except PhoenixError:
            stored = {view.scope.component for view in views}
            found |= {component, *(one for one in stored if one.startswith(f"{component}."))}
    return found


def _standing(backups: Backups, view: View) -> Standing:
    good = view.newest_good
    return Standing(
        view.scope.component,
        backups.spec.schedule.of(view.scope.component),
        good.manifest.time.consistency_point if good is not None else None,
    )

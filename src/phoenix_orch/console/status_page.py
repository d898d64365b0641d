"""The public status page: made from what is known now, as files that outlive whoever wrote them.

Nothing secret and nothing internal is in it: names of services and components, whether they are well, and
versions that were released. Reasons, addresses, people and numbers stay inside.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from phoenix_orch.console import render
from phoenix_orch.console.assets import assets
from phoenix_orch.console.overview import FINE
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.status_days import StatusDays, grade, row, uptime
from phoenix_orch.orchestrator.views import ServiceView
from phoenix_orch.rollout.status import Outcome, Release

TITLE = "Status"
LATEST = 20
"""Releases that are listed."""


@dataclass(frozen=True, slots=True)
class Incident:
    """What is told to everybody of something that is wrong."""

    title: str
    since: datetime
    update: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the page is made of."""

    at: datetime
    parts: Mapping[str, bool]
    """By name: whether it is well now."""
    releases: Sequence[tuple[str, Release]]
    """(rollout, release), newest first."""
    incidents: Sequence[Incident] = field(default=())
    """Open ones; none until something records them."""


def well_now(services: Sequence[ServiceView], components: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """Services serve when an instance is ready; components when they say so."""
    found = {view.name: view.ready > 0 for view in services}
    return found | {f"Phoenix {one['name']}": one["state"] in FINE for one in components}


def pages(facts: Facts, kept: StatusDays, title: str = TITLE) -> dict[str, bytes]:
    """The files of the page by name; `index.html` last, so that it never leads to what is not there yet."""
    today = facts.at.date()
    rows = [
        (name, well, list(row(kept, name, today)), uptime(kept, name)) for name, well in facts.parts.items()
    ]
    text = render.text(
        "status_page.html",
        title=title,
        facts=facts,
        rows=rows,
        grade=grade,
        releases=[(name, one, _word(one)) for name, one in facts.releases[:LATEST]],
        by_day=_by_day(facts.releases),
        all_well=all(facts.parts.values()) and not facts.incidents,
    )
    return {"status.css": assets()["status.css"].content, "index.html": text.encode()}


def _word(release: Release) -> str:
    return {
        Outcome.PROMOTED: "released",
        Outcome.ROLLED_BACK: "taken back",
    }.get(release.outcome, "cancelled")


def _by_day(releases: Sequence[tuple[str, Release]]) -> dict[date, int]:
    found: dict[date, int] = {}
    for _, release in releases:
        day = release.ended.date()
        found[day] = found.get(day, 0) + 1
    return found


def write(directory: Path, files: Mapping[str, bytes]) -> None:
    """Put each file in place whole, readable by everybody. Raises Invalid where that cannot be."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            staged = directory / f".{name}.{os.getpid()}"
            try:
                with staged.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                staged.chmod(0o644)
                staged.replace(directory / name)
            finally:
                staged.unlink(missing_ok=True)
    except OSError as error:
        raise Invalid(
            f"the status page cannot be written into {directory}: {error.strerror or error}",
            remedy="name a directory that can be written",
        ) from None

"""Whether the router does its work: it answers, and it obeys the table.

That a process lives says little: one that was stopped, or that hangs, takes connections and never answers.
And one that answers may still not have heard of a change, for example after somebody put another
directory in the place of the one it watches.
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass, field
from enum import Enum

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.runtime import detached
from phoenix_orch.traffic.route_files import RouteFiles
from phoenix_orch.traffic.traefik_api import RouterInfo, obeyed, ping

INTERVAL = 1.0
"""Seconds between two looks, and for how long one waits for an answer."""
SILENCES = 5
"""Looks in a row without an answer after which the router is replaced: it has been silent for 5 s."""
NUDGE_AFTER, REPLACE_AFTER = 2, 5
"""Looks in a row at which it does not obey: it is told to read the table again, then replaced."""


class Finding(Enum):
    """What one look found."""

    OBEYS = "ok"
    DEAF = "does not take its routes"
    SILENT = "does not answer"
    TABLE_CHANGED = "the file of its routes was changed by somebody"


@dataclass(frozen=True, slots=True)
class Look:
    """One look, and the table in force as far as the router says."""

    found: Finding
    table: str = ""


class Remedy(Enum):
    NONE = "none"
    RESTORE = "write the table again"
    NUDGE = "read the table again"
    REPLACE = "start it anew"


@dataclass
class Patience:
    """Counts findings in a row and says what to do. Pure.

    Looks are counted and not seconds: a Phoenix that was itself stopped, or a machine that slept, must
    not take its own absence for the router's. One that is found behind its table time and again while it
    takes one after another is not deaf: the table changes faster than one can look.
    """

    last: Look = field(default_factory=lambda: Look(Finding.OBEYS))
    times: int = field(default=0)

    def remedy(self, look: Look) -> Remedy:
        again = look == self.last if look.found is Finding.DEAF else look.found is self.last.found
        self.times = self.times + 1 if again else 1
        self.last = look
        match look.found:
            case Finding.SILENT if self.times >= SILENCES:
                return Remedy.REPLACE
            case Finding.TABLE_CHANGED if self.times >= NUDGE_AFTER:
                return Remedy.RESTORE
            case Finding.DEAF if self.times >= REPLACE_AFTER:
                return Remedy.REPLACE
            case Finding.DEAF if self.times == NUDGE_AFTER:
                return Remedy.NUDGE
        return Remedy.NONE


async def look(info: RouterInfo, files: RouteFiles) -> Look:
    """One look; takes up to `INTERVAL` for each of two questions."""
    if not await ping(info.admin, INTERVAL):
        return Look(Finding.SILENT)
    try:
        marker = await asyncio.to_thread(files.marker)
    except PhoenixError:
        return Look(Finding.TABLE_CHANGED)
    if marker is None:
        return Look(Finding.TABLE_CHANGED)
    table = await obeyed(info.admin, INTERVAL)
    if table is None:
        return Look(Finding.SILENT)
    return Look(Finding.OBEYS if table == marker else Finding.DEAF, table)


async def settled(info: RouterInfo, files: RouteFiles, within: float) -> Finding:
    """What is found once a change that was just written has had `within` seconds to take effect."""
    give_up = time.monotonic() + within
    while (seen := await look(info, files)).found in {Finding.DEAF, Finding.TABLE_CHANGED}:
        if time.monotonic() > give_up:
            break
        await asyncio.sleep(0.05)
    return seen.found


def nudge(info: RouterInfo) -> None:
    """Tell Traefik to read its file. Only for one that has answered: at its very start it would end."""
    detached.send(info.process, signal.SIGHUP)

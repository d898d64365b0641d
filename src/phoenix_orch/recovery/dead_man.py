"""Whom to call after a good backup, so that somebody outside notices when no call comes. Pure.

Where the address has `{component}` in it, each component has a watch of its own. Where it has not, one watch
stands for all: then no call is made while any component has no good backup that is fresh, or the calls of one
would hide that another one has stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from phoenix_orch.recovery.freshness import LATE

PLACE = "{component}"


@dataclass(frozen=True, slots=True)
class Standing:
    """One component that is backed up."""

    component: str
    every: timedelta
    good: datetime | None
    """Of what moment its newest good backup is."""

    def fresh(self, now: datetime) -> bool:
        return self.good is not None and now - self.good <= self.every * LATE


def address(template: str, component: str) -> str:
    """`redis/cache` becomes `redis-cache` in it."""
    return template.replace(PLACE, quote(component.replace("/", "-"), safe=""))


def held_up_by(template: str, standings: Iterable[Standing], now: datetime) -> list[str]:
    """The components for which no call may be made."""
    if PLACE in template:
        return []
    return [one.component for one in standings if not one.fresh(now)]

"""What is rehearsed: which copies, and of which tier each is. Pure: the lot is drawn by a seed that is kept.

The same seed and the same backups give the same copies, so that a drill can be told again from its report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

HOURLY = timedelta(days=1)
DAILY = timedelta(days=7)


class Tier(StrEnum):
    """How old a copy is: each tier of the retention is to be recoverable, not the newest copy alone."""

    HOURLY = "hourly"
    """Of the last 24 hours."""
    DAILY = "daily"
    """Of the last seven days."""
    WEEKLY = "weekly"
    """Older."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backup, as far as the lot looks at it."""

    id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Drawn:
    """A backup that the lot fell on."""

    id: str
    tier: Tier


def tier(at: datetime, now: datetime) -> Tier:
    age = now - at
    if age <= HOURLY:
        return Tier.HOURLY
    return Tier.DAILY if age <= DAILY else Tier.WEEKLY


def draw(candidates: Iterable[Candidate], now: datetime, seed: str) -> Sequence[Drawn]:
    """One of each tier that has any, the newest tier first. The order of `candidates` does not matter."""
    tiers: dict[Tier, list[str]] = {one: [] for one in Tier}
    for candidate in candidates:
        tiers[tier(candidate.at, now)].append(candidate.id)
    return [Drawn(min(ids, key=lambda id_: _lot(seed, id_)), one) for one, ids in tiers.items() if ids]


def _lot(seed: str, backup: str) -> str:
    return hashlib.sha256(f"{seed}\0{backup}".encode()).hexdigest()

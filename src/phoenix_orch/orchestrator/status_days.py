"""How much of each day each part was seen to be well: the memory of the status page. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta

from pydantic import Field

from phoenix_orch.rollout.spec import Model

DAYS = 90
"""Days that are shown."""
DEGRADED, DOWN = 0.9995, 0.95
"""Share of looks at which a part was well, below which a day is not fine, and below which it is bad."""


class Looks(Model):
    """Looks at one part on one day."""

    seen: int = 0
    well: int = 0


class StatusDays(Model):
    """Looks by day (ISO, UTC) and part."""

    days: dict[date, dict[str, Looks]] = Field(default_factory=dict)


def looked(kept: StatusDays, today: date, well: Mapping[str, bool]) -> StatusDays:
    """One more look at every part; days that nobody is shown any more are dropped."""
    first = today - timedelta(days=DAYS - 1)
    days = {day: parts for day, parts in kept.days.items() if day >= first}
    before = days.get(today, {})
    days[today] = before | {
        name: Looks(
            seen=before.get(name, Looks()).seen + 1,
            well=before.get(name, Looks()).well + fine,
        )
        for name, fine in well.items()
    }
    return StatusDays(days=dict(sorted(days.items())))


def row(kept: StatusDays, part: str, today: date) -> Iterator[tuple[date, float | None]]:
    """The shown days, oldest first, with the share of looks at which the part was well; None: not seen."""
    for back in range(DAYS - 1, -1, -1):
        day = today - timedelta(days=back)
        looks = kept.days.get(day, {}).get(part)
        yield day, (looks.well / looks.seen if looks is not None and looks.seen else None)


def grade(share: float | None) -> str:
    """`unknown`, `well`, `degraded` or `down`."""
    if share is None:
        return "unknown"
    return "well" if share >= DEGRADED else "degraded" if share >= DOWN else "down"


def uptime(kept: StatusDays, part: str) -> float | None:
    """Share of all looks at which it was well."""
    looks = [parts[part] for parts in kept.days.values() if part in parts]
    seen = sum(one.seen for one in looks)
    return sum(one.well for one in looks) / seen if seen else None

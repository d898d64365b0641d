"""Has a backup lost what it should hold? Compared with the middle of the good ones before it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from phoenix_orch.recovery.manifest import Drop

TRAIL = 8
"""Good backups that are looked back on."""
RAW_BYTES = "rawBytes"


def measured(raw_bytes: int, content: Mapping[str, object], names: Sequence[str]) -> dict[str, float]:
    """How much there is: bytes, and what the source counts."""
    found: dict[str, float] = {RAW_BYTES: float(raw_bytes)}
    for name in names:
        value = content.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)
    return found


def drops(now: Mapping[str, float], before: Sequence[Mapping[str, float]], share: float) -> tuple[Drop, ...]:
    """What has lost more than `share`. `before`: measures of good backups, newest first."""
    found = []
    for name, value in sorted(now.items()):
        trail = [one[name] for one in before[:TRAIL] if name in one]
        if not trail:
            continue
        middle = median(trail)
        if middle > 0 and value < middle * (1 - share):
            found.append(Drop(measure=name, value=value, median=middle))
    return tuple(found)

"""When a line of a log was written, as far as the line itself tells, and the last lines of several. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

_WITHIN = 80
"""Characters at the begin of a line among which its time is looked for."""
_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?(?:Z|[+-]\d\d:?\d\d)?")
_COMMON = re.compile(r"\[(\d\d/[A-Z][a-z]{2}/\d{4}[: ]\d\d:\d\d:\d\d)(?: ([+-]\d{4}))?\]")
"""As web servers write it: [01/Mar/2026:12:00:00 +0000]."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def time_of(line: str) -> datetime | None:
    """The time in the line; without a zone it is taken for UTC. None: it has none."""
    begin = line[:_WITHIN]
    text = ""
    if found := _ISO.search(begin):
        text = found.group().replace(",", ".")
    elif found := _COMMON.search(begin):
        moment, zone = found.groups()
        day, month, rest = moment.split("/")
        if month in _MONTHS:
            text = f"{rest[:4]}-{_MONTHS.index(month) + 1:02}-{day}T{rest[5:]}{zone or ''}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def last(written: Mapping[str, Sequence[str]], number: int) -> list[tuple[str, str]]:
    """The last `number` lines of all, as (who wrote it, line), in the order of their times.

    A line without a time belongs to the one before it. Where somebody's lines have none at all nobody can
    tell the order: then the last `number` of each, one writer after another.
    """
    timed: list[tuple[datetime, str, str]] = []
    for who, lines in written.items():
        moment = next((found for line in lines if (found := time_of(line)) is not None), None)
        if lines and moment is None:
            return [(name, line) for name, every in written.items() for line in every[-number:] if number]
        for line in lines:
            moment = time_of(line) or moment
            assert moment is not None
            timed.append((moment, who, line))
    timed.sort(key=lambda entry: entry[0])
    return [(who, line) for _, who, line in timed[-number:] if number]

"""Quantities as people write them: `10m`, `0.1%`, `100ms`, `1Gi`.

Each unit has a parser, a formatter that gives the shortest exact text back, and an annotated type
for pydantic models (`Duration`, `Ratio`, `Size`). Parsers raise ValueError with what was found
and what is allowed.

The patterns are the whole grammar: the JSON Schema for editors and the custom resource definition show the
same ones. They are written in what Python, RE2 and JavaScript understand alike.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_DURATION_UNITS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
DURATION_PATTERN = (
    r"^([0-9]{1,5}(\.[0-9]{1,3})?d)?([0-9]{1,5}(\.[0-9]{1,3})?h)?([0-9]{1,7}(\.[0-9]{1,3})?m)?"
    r"([0-9]{1,9}(\.[0-9]{1,3})?s)?([0-9]{1,12}ms)?$"
)
"""The largest unit first, each at most once. It matches the empty text, too, which is no duration."""
DURATION_LENGTH = 60
"""Characters of the longest text that the pattern matches, and a few."""
LONGEST = timedelta(days=3650)
_DURATION = re.compile(DURATION_PATTERN)
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_DURATIONS = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")
"""Looser, to say what is wrong with it."""

RATIO_PATTERN = r"^0*(100(\.0+)?|[0-9]{1,2}(\.[0-9]+)?) ?%$"
RATIO_LENGTH = 512
"""Characters: the smallest floats have some 340 digits."""
_RATIO = re.compile(RATIO_PATTERN)
_PERCENTAGE = re.compile(r"[0-9]+(\.[0-9]+)? ?%")

_SIZE_UNITS = {
    "": 1,
    "k": 1000,
    "M": 1000**2,
    "G": 1000**3,
    "T": 1000**4,
    "Ki": 1024,
    "Mi": 1024**2,
    "Gi": 1024**3,
    "Ti": 1024**4,
}
SIZE_PATTERN = r"^([0-9]+(\.[0-9]+)?)(k|M|G|T|Ki|Mi|Gi|Ti)?$"
SIZE_LENGTH = 40
_SIZE = re.compile(SIZE_PATTERN)


def parse_duration(text: object) -> timedelta:
    """`90s`, `10m`, `1h30m`, `100ms`, `0s` → timedelta."""
    if isinstance(text, timedelta):
        if text < timedelta(0):
            raise ValueError(f"{text!r} is negative")
        return text
    if isinstance(text, str) and _DURATIONS.fullmatch(text) and len(text) <= DURATION_LENGTH:
        seconds = sum(
            Decimal(number) * _DURATION_UNITS[unit] for number, unit in _DURATION_PART.findall(text)
        )
        if seconds > LONGEST.total_seconds():
            raise ValueError(f"{text!r} is longer than ten years")
        if seconds * 1000 % 1:
            raise ValueError(f"{text!r} is finer than a millisecond")
        if _DURATION.fullmatch(text):
            return timedelta(milliseconds=int(seconds * 1000))
        raise ValueError(
            f"{text!r} is not a duration; write each unit once, the largest first, with at most three "
            "digits after the point: 1h30m, 1.5m"
        )
    raise ValueError(f"{text!r} is not a duration; write a number and a unit: 100ms, 30s, 10m, 2h")


def format_duration(value: timedelta) -> str:
    """The shortest exact text that `parse_duration` reads back (down to a millisecond)."""
    milliseconds = round(value.total_seconds() * 1000)
    if milliseconds == 0:
        return "0s"
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def parse_ratio(text: object) -> float:
    """`0.1%` → 0.001. A share without the sign is refused: 0.1 might mean either."""
    if isinstance(text, str) and len(text) <= RATIO_LENGTH and _PERCENTAGE.fullmatch(text):
        if not _RATIO.fullmatch(text):
            raise ValueError(f"{text!r} is above 100%")
        return float(Decimal(text.removesuffix("%").rstrip()) / 100)
    raise ValueError(f"{text!r} is not a share; write a percentage with its sign: 0.1%, 5%")


def format_ratio(value: float) -> str:
    """0.001 → `0.1%`: the shortest exact text that `parse_ratio` reads back."""
    percent = (Decimal(repr(value)) * 100).normalize()
    return f"{percent:f}%"


def parse_size(text: object) -> int:
    """`512Mi`, `1Gi`, `100M`, `4096` → bytes."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    if isinstance(text, str) and len(text) <= SIZE_LENGTH and (match := _SIZE.fullmatch(text)):
        return int(Decimal(match.group(1)) * _SIZE_UNITS[match.group(3) or ""])
    raise ValueError(f"{text!r} is not a size; write bytes or a number and a unit: 512Mi, 1Gi, 100M")


def format_size(value: int) -> str:
    """The shortest exact text that `parse_size` reads back."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        size = _SIZE_UNITS[unit]
        if value >= size and value % size == 0:
            return f"{value // size}{unit}"
    return str(value)


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": DURATION_PATTERN,
            "minLength": 2,
            "maxLength": DURATION_LENGTH,
            "examples": ["10m"],
        }
    ),
]
Ratio = Annotated[
    float,
    BeforeValidator(parse_ratio),
    PlainSerializer(format_ratio, when_used="json"),
    WithJsonSchema(
        {"type": "string", "pattern": RATIO_PATTERN, "maxLength": RATIO_LENGTH, "examples": ["0.1%"]}
    ),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": SIZE_PATTERN, "maxLength": SIZE_LENGTH},
            ],
            "examples": ["512Mi"],
        }
    ),
]

"""Quantities as people write them: `10m`, `0.1%`, `100ms`, `1Gi`.

Each unit has a parser, a formatter that gives the shortest exact text back, and an annotated type
for pydantic models (`Duration`, `Ratio`, `Size`). Parsers raise ValueError with what was found
and what is allowed.
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
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")
_LONGEST = timedelta(days=3650)

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
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(k|M|G|T|Ki|Mi|Gi|Ti|)")


def parse_duration(text: object) -> timedelta:
    """`90s`, `10m`, `1h30m`, `100ms`, `0s` → timedelta."""
    if isinstance(text, timedelta):
        value = text
    elif isinstance(text, str) and _DURATION.fullmatch(text.strip()):
        seconds = sum(
            Decimal(number) * _DURATION_UNITS[unit] for number, unit in _DURATION_PART.findall(text)
        )
        if seconds > _LONGEST.total_seconds():
            raise ValueError(f"{text!r} is longer than ten years")
        if seconds * 1000 % 1:
            raise ValueError(f"{text!r} is finer than a millisecond")
        value = timedelta(milliseconds=int(seconds * 1000))
    else:
        raise ValueError(f"{text!r} is not a duration; write a number and a unit: 100ms, 30s, 10m, 2h")
    if value < timedelta(0):
        raise ValueError(f"{text!r} is negative")
    return value


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
    if isinstance(text, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*", text)
        if match:
            value = float(Decimal(match.group(1)) / 100)
            if value > 1.0:
                raise ValueError(f"{text!r} is above 100%")
            return value
    raise ValueError(f"{text!r} is not a share; write a percentage with its sign: 0.1%, 5%")


def format_ratio(value: float) -> str:
    """0.001 → `0.1%`: the shortest exact text that `parse_ratio` reads back."""
    percent = (Decimal(repr(value)) * 100).normalize()
    return f"{percent:f}%"


def parse_size(text: object) -> int:
    """`512Mi`, `1Gi`, `100M`, `4096` → bytes."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    if isinstance(text, str):
        match = _SIZE.fullmatch(text.strip())
        if match:
            return int(Decimal(match.group(1)) * _SIZE_UNITS[match.group(2)])
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
    WithJsonSchema({"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$", "examples": ["10m"]}),
]
Ratio = Annotated[
    float,
    BeforeValidator(parse_ratio),
    PlainSerializer(format_ratio, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?\s*%$", "examples": ["0.1%"]}),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": r"^\d+(\.\d+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$"},
            ],
            "examples": ["512Mi"],
        }
    ),
]

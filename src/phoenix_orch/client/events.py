"""Server-sent events as values, out of the lines they come in. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One message of a stream."""

    event: str
    """`rollout`, `verdict`, `event`, `observation`, `components`, `gone`, `away`, `reset`, `reconnect`."""
    data: Any
    """As in JSON: what the API gives under that name; an object that may be empty."""
    id: str = ""


@dataclass(slots=True)
class _Fields:
    event: str = "message"
    data: list[str] = field(default_factory=list)


def messages(lines: Iterable[bytes]) -> Iterator[StreamEvent]:
    """Raises ValueError for data that is no JSON."""
    found, last = _Fields(), ""
    for line in lines:
        name, _, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            found.event = value
        elif name == "data":
            found.data.append(value)
        elif name == "id":
            last = value
        elif not name and not value:
            if found.data:
                yield StreamEvent(found.event, json.loads("\n".join(found.data)), last)
            found = _Fields()

"""The logs of a rollout, each a stream of the server: read page by page, from either end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from redis.asyncio import Redis

from phoenix_orch.health_validator.observation import Observation
from phoenix_orch.rollout.status import Event
from phoenix_orch.rollout.store.valkey_values import read, text_of
from phoenix_orch.runtime.valkey_client import answered

T = TypeVar("T")

PAGE = 1000
"""Entries of one page at most."""
FIRST_PAGE = 8
"""Entries that are read first by whoever wants what is newer than a moment: mostly there are one or two."""


async def newest(
    client: Redis, key: str, reader: Callable[[bytes], T], limit: int, since: datetime | None = None
) -> list[T]:
    """The newest entries, oldest first; with `since` back to the first that ended before it."""
    found: list[T] = []
    end, most = "+", PAGE if since is None else FIRST_PAGE
    while len(found) < limit:
        count = min(most, limit - len(found))
        most = min(PAGE, 4 * most)
        async with answered(client):
            page: Any = await client.xrevrange(key, end, "-", count=count)
        for entry, fields in page:
            end = f"({text_of(entry)}"
            value = _value(reader, key, entry, fields)
            if since is not None and isinstance(value, Observation) and value.t1 < since:
                return found[::-1]
            found.append(value)
        if len(page) < count:
            break
    return found[::-1]


async def events_after(client: Redis, key: str, event_id: str, limit: int) -> list[tuple[str, Event]]:
    """The oldest `limit` events after that one, with their ids; `0-0`: from the first one on. All of them,
    too, where the stream was made anew and has never come so far."""
    async with answered(client):
        page: Any = await client.xrange(key, f"({event_id}", "+", count=limit)
        if not page and event_id != "0-0":
            last: Any = await client.xrevrange(key, "+", "-", count=1)
            if last and _place(text_of(last[0][0])) < _place(event_id):
                page = await client.xrange(key, "-", "+", count=limit)
    return [(text_of(entry), _value(Event.model_validate_json, key, entry, fields)) for entry, fields in page]


def _value(reader: Callable[[bytes], T], key: str, entry: Any, fields: dict[Any, bytes]) -> T:
    """An entry has one field."""
    return read(reader, next(iter(fields.values()), b""), f"{key} at {text_of(entry)}")


def _place(event_id: str) -> tuple[int, int]:
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number or 0)

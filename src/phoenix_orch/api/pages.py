"""Lists in pages. Pure.

A cursor says behind which entry the next page begins; it is opaque, so that what it holds may change. The
address of the next page stands in the header `Link` (RFC 8288), and bodies stay plain lists.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, TypeVar

from fastapi import Query, Request, Response

from phoenix_orch.kernel.errors import Invalid

T = TypeVar("T")

MOST = 20_000
"""Entries of a page at most."""
Limit = Annotated[int, Query(ge=1, le=MOST, description="Entries of a page at most.")]
Cursor = Annotated[
    str, Query(max_length=500, description="Go on behind a page: what the `next` of its `Link` says.")
]


def encode(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def decode(cursor: str) -> str:
    """The place that a cursor stands for, empty for none. Raises Invalid for what is none of ours."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise Invalid("that is no cursor of a list", remedy="give back what `Link` said, or none") from None


def number(cursor: str) -> int | None:
    """The number in a cursor. Raises Invalid."""
    place = decode(cursor)
    if not place:
        return None
    if not (place.isascii() and place.isdecimal() and len(place) < 18):
        raise Invalid("that is no cursor of this list", remedy="give back what `Link` said, or none")
    return int(place)


def behind(items: Sequence[T], place: str, limit: int, name: Callable[[T], str]) -> tuple[list[T], str]:
    """(the page, the place of the next one) of a list in the order of names."""
    rest = [item for item in items if name(item) > place]
    return rest[:limit], name(rest[limit - 1]) if len(rest) > limit else ""


def older(items: Sequence[T], place: str, limit: int, at: Callable[[T], datetime]) -> tuple[list[T], str]:
    """(the newest `limit` before the place, the place of those before them) of a list that begins with the
    oldest. Entries of one moment are told apart by what they say."""
    end = len(items) if not place else _end(items, place, at)
    page = list(items[max(0, end - limit) : end])
    return page, mark(page[0], at) if len(page) < end else ""


def mark(item: T, at: Callable[[T], datetime]) -> str:
    """The place of an entry of a list by time."""
    said = hashlib.sha256(repr(item).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return json.dumps([at(item).isoformat(), said])


def _end(items: Sequence[T], place: str, at: Callable[[T], datetime]) -> int:
    """How many entries stand before the place, whether its entry is still there or not."""
    try:
        moment = datetime.fromisoformat(json.loads(place)[0])
        before = sum(at(item) < moment for item in items)
    except (ValueError, TypeError, LookupError):
        raise Invalid(
            "that is no cursor of this list", remedy="give back what `Link` said, or none"
        ) from None
    for index in range(before, len(items)):
        if at(items[index]) != moment:
            break
        if mark(items[index], at) == place:
            return index
    return before


def link(request: Request, response: Response, place: str) -> None:
    """Say where the next page is, if there is one."""
    if place:
        address = request.url.include_query_params(cursor=encode(place))
        response.headers["link"] = f'<{address.path}?{address.query}>; rel="next"'

"""The header `traceparent` of W3C Trace Context, which carries a trace from one program to the next. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

HEADER = "traceparent"

_FORM = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
)
_SAMPLED = 0x01


class TraceParent(NamedTuple):
    """Where a request comes from."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits: the caller's span."""
    sampled: bool
    """The caller keeps this trace."""


def parse(header: str) -> TraceParent | None:
    """None for what is no such header: it is ignored then, as the standard wants it."""
    # A later version may say more behind another hyphen; version 00 does not.
    head, rest = header.strip()[:55], header.strip()[55:]
    found = _FORM.fullmatch(head)
    if found is None or found["version"] == "ff" or (rest and (found["version"] == "00" or rest[0] != "-")):
        return None
    if not found["trace"].strip("0") or not found["span"].strip("0"):
        return None
    return TraceParent(found["trace"], found["span"], bool(int(found["flags"], 16) & _SAMPLED))

r"""Patterns of keys as SCAN and KEYS understand them, for keys that no server holds yet. Pure.

`*` any bytes · `?` one · `[abc]`, `[a-c]`, `[^a]` one of, or none of them · `\` takes the next as it is
"""

from __future__ import annotations

import re
from collections.abc import Callable

Matches = Callable[[bytes], bool]


def matching(pattern: str) -> Matches:
    """Whether a key is meant. A set that is not closed goes to the end, as the servers have it."""
    if pattern == "*":
        return lambda _: True
    found = re.compile(_expression(pattern.encode()), re.DOTALL)
    return lambda key: found.fullmatch(key) is not None


def _expression(pattern: bytes) -> bytes:
    out, at = bytearray(), 0
    while at < len(pattern):
        one = pattern[at : at + 1]
        at += 1
        if one == b"*":
            while pattern[at : at + 1] == b"*":
                at += 1
            out += b".*"
        elif one == b"?":
            out += b"."
        elif one == b"[":
            part, at = _set(pattern, at)
            out += part
        else:
            if one == b"\\" and at < len(pattern):
                one = pattern[at : at + 1]
                at += 1
            out += re.escape(one)
    return bytes(out)


def _set(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The expression of a set whose bracket was read, and where it ends."""
    negated = pattern[at : at + 1] == b"^"
    at += negated
    members: set[int] = set()
    while at < len(pattern) and pattern[at] != ord("]"):
        if pattern[at] == ord("\\") and at + 1 < len(pattern):
            at += 1
        elif pattern[at + 1 : at + 2] == b"-" and at + 2 < len(pattern):
            first, last = sorted((pattern[at], pattern[at + 2]))
            members.update(range(first, last + 1))
            at += 3
            continue
        members.add(pattern[at])
        at += 1
    listed = b"".join(b"\\x%02x" % one for one in sorted(members))
    if not listed:
        return (b"." if negated else b"(?!)"), at + 1
    return b"[" + (b"^" if negated else b"") + listed + b"]", at + 1

"""How far the audit log has come, kept beside it: without that nobody could tell that its end is missing.

It is written after the records, so that it is never ahead of them, and need not be on the disk before they
are told of: where power fails it may be behind, and the chain itself says what follows.

Two places of equal size are written in turn, each with a sum of its own, so that a crash in the middle of a
write leaves the other one.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass

from phoenix_orch.security.audit_chain import GENESIS, Link

_PLACE = 256
_LINE = re.compile(rb"(\d+) ([0-9a-f]{64}) (\d+) (\d+) ([0-9a-f]{16})\n")


@dataclass(frozen=True, slots=True)
class Head:
    """The end of what was appended and told."""

    link: Link = GENESIS
    first: int = 1
    """Number of the first record in the file that is written to."""
    size: int = 0
    """Bytes of that file."""


def read(descriptor: int) -> Head | None:
    """The newer of the two places; None where neither can be read."""
    found = [_parsed(os.pread(descriptor, _PLACE, place * _PLACE)) for place in (0, 1)]
    return max((one for one in found if one is not None), key=lambda one: one.link.seq, default=None)


def write(descriptor: int, head: Head, *, durably: bool) -> None:
    """Seen by every process when it returns; `durably`: on the disk, too. Raises OSError."""
    text = f"{head.link.seq} {head.link.hash} {head.first} {head.size}"
    line = f"{text} {_sum(text)}\n".encode().ljust(_PLACE)
    os.pwrite(descriptor, line, (head.link.seq % 2) * _PLACE)
    if durably:
        os.fdatasync(descriptor)


def _parsed(place: bytes) -> Head | None:
    found = _LINE.match(place)
    if found is None:
        return None
    seq, link, first, size, said = (one.decode() for one in found.groups())
    if _sum(f"{seq} {link} {first} {size}") != said:
        return None
    return Head(Link(int(seq), link), int(first), int(size))


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""What a dump says of itself in its first bytes: format, server, the moment of its fork. Pure.

    REDIS0011 | VALKEY080   then   FA <key> <value>   for each auxiliary field

Source: the RDB format as rdb.c of Valkey 9 and Redis 8 write it. Strings are length-prefixed or integers of
1, 2 or 4 bytes; auxiliary fields are never compressed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from phoenix_orch.kernel.errors import Terminal

AUX = 0xFA
MAGIC = 9
"""Bytes of the format, with which a dump begins."""
LONGEST = 64 * 1024
"""Bytes within which every known server has written its fields; some 200 in fact."""
_MAGIC = re.compile(rb"(REDIS|VALKEY)([0-9]+)")
_SECONDS = re.compile(r"[0-9]{1,11}")
"""Until the year 5138: what is later is no moment, and no year of a datetime."""
_BYTES = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class RdbHeader:
    """The first fields of a dump."""

    magic: str
    """`REDIS` or `VALKEY`."""
    version: int
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def format(self) -> str:
        """`REDIS0011`, `VALKEY080`: as in the first nine bytes."""
        return f"{self.magic}{self.version:0{9 - len(self.magic)}d}"

    @property
    def server_version(self) -> str:
        """Of the server that wrote it; empty when it does not say."""
        return self.fields.get("valkey-ver") or self.fields.get("redis-ver", "")

    @property
    def consistency_point(self) -> datetime | None:
        """The second of the fork: everything before it is in the dump, and nothing after it."""
        text = self.fields.get("ctime", "")
        return datetime.fromtimestamp(int(text), UTC) if _SECONDS.fullmatch(text) else None

    @property
    def used_memory(self) -> int:
        """Bytes that the data took in the server; 0 when it does not say."""
        text = self.fields.get("used-mem", "")
        return int(text) if _BYTES.fullmatch(text) else 0


class _ShortError(Exception):
    """More bytes are needed."""


def format_of(data: bytes) -> tuple[str, int]:
    """Whose format, and its version, from the first `MAGIC` bytes. Raises Terminal for what is no dump."""
    found = _MAGIC.fullmatch(data[:MAGIC])
    if found is None:
        raise _no_dump(data)
    return found[1].decode(), int(found[2])


def parse(data: bytes) -> RdbHeader | None:
    """The header at the beginning of `data`; None while more bytes are needed. Raises Terminal."""
    if len(data) < MAGIC:
        if not any(magic.startswith(data[: len(magic)]) for magic in (b"REDIS", b"VALKEY")):
            raise _no_dump(data)
        return None
    magic, version = format_of(data)
    fields: dict[str, str] = {}
    at = MAGIC
    try:
        while _byte(data, at) == AUX:
            key, at = _string(data, at + 1)
            value, at = _string(data, at)
            fields[key] = value
    except _ShortError:
        if len(data) < LONGEST:
            return None
    return RdbHeader(magic, version, fields)


def _no_dump(data: bytes) -> Terminal:
    return Terminal(
        f"this is no dump of Redis or Valkey: it begins with {data[:9]!r}",
        remedy="look whether it is what you mean; a dump begins with REDIS or VALKEY",
    )


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise _ShortError
    return data[at]


def _string(data: bytes, at: int) -> tuple[str, int]:
    first = _byte(data, at)
    kind, low = first >> 6, first & 0x3F
    if kind == 0:
        start, size = at + 1, low
    elif kind == 1:
        start, size = at + 2, low << 8 | _byte(data, at + 1)
    elif first == 0x80:
        start, size = at + 5, int.from_bytes(data[at + 1 : at + 5], "big")
    elif kind == 3 and low < 3:
        width = 1 << low
        end = at + 1 + width
        _byte(data, end - 1)
        return str(int.from_bytes(data[at + 1 : end], "little", signed=True)), end
    else:
        raise Terminal(f"a field of the dump's header is damaged at byte {at}", remedy="take another copy")
    if start + size > len(data):
        raise _ShortError
    return data[start : start + size].decode("utf-8", "replace"), start + size

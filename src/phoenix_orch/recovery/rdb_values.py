"""Where a value of a dump ends: each kind of value, as the servers write it.

What DUMP gives of a key is its kind and its value as they stand in a dump, with the version of the format and
a checksum. So whoever knows where values end can restore keys from a dump that no server has loaded.

Source: rdb.c and rdb.h of Redis 6.2 to 8 and of Valkey 7.2 to 9.
"""

from __future__ import annotations

from collections.abc import Callable

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.recovery.rdb_bytes import RdbBytes

_MOMENT = 8
"""Bytes of a time in milliseconds."""
_ENTRY = 16
"""Of the id of an entry of a stream, where it is not packed."""
_STREAM, _STREAM_2, _STREAM_3 = 15, 19, 21
_END, _SIGNED, _UNSIGNED, _FLOAT, _DOUBLE, _STRING = range(6)
"""Of what a module wrote."""
_NOT_FINITE = 253
"""A score that is written as text has fewer bytes; from here on it is no number or infinite."""

KINDS = {
    0: "string", 1: "list", 2: "set", 3: "zset", 4: "hash", 5: "zset", 7: "module", 9: "hash", 10: "list",
    11: "set", 12: "zset", 13: "hash", 14: "list", 15: "stream", 16: "hash", 17: "zset", 18: "list",
    19: "stream", 20: "set", 21: "stream", 22: "hash", 24: "hash", 25: "hash",
}  # fmt: skip
"""What people call a kind of value, by its number in the dump."""


def skip_value(data: RdbBytes, kind: int, magic: str) -> None:
    """Past a value whose kind was read. `magic`: `REDIS` or `VALKEY`.

    Raises Corrupted for damage, UnknownKindError.
    """
    if kind == 22 and magic == "VALKEY":
        _each(data, lambda: _hash_field(data))
        return
    skip = _SKIPS.get(kind)
    if skip is None:
        raise unknown(f"values of kind {kind}")
    skip(data)


class UnknownKindError(Terminal):
    """The dump may be whole, and holds what this Phoenix cannot walk past."""


def unknown(what: str) -> UnknownKindError:
    return UnknownKindError(
        f"this Phoenix does not know {what}, which the dump holds",
        remedy="restore it whole into a server as new as its own: phoenix restore plan redis",
    )


def _each(data: RdbBytes, one: Callable[[], None]) -> None:
    for _ in range(data.length()):
        one()


def _strings(data: RdbBytes) -> None:
    for _ in range(data.length()):
        data.skip_string()


def _pairs(data: RdbBytes) -> None:
    for _ in range(2 * data.length()):
        data.skip_string()


def _scored(data: RdbBytes) -> None:
    for _ in range(data.length()):
        data.skip_string()
        data.skip(8)


def _scored_as_text(data: RdbBytes) -> None:
    for _ in range(data.length()):
        data.skip_string()
        size = data.byte()
        data.skip(size if size < _NOT_FINITE else 0)


def _nodes(data: RdbBytes) -> None:
    """A list in pieces: how each is packed, and the piece."""
    for _ in range(data.length()):
        data.length()
        data.skip_string()


def _hash_field(data: RdbBytes) -> None:
    """Of Valkey 9: a field, its value, its end."""
    data.skip_string()
    data.skip_string()
    data.skip(_MOMENT)


def _hash_with_ends(data: RdbBytes) -> None:
    """Of Redis 7.4: the earliest end; then of each field how much later it ends, the field, its value."""
    data.skip(_MOMENT)
    for _ in range(data.length()):
        data.length()
        data.skip_string()
        data.skip_string()


def _packed_with_ends(data: RdbBytes) -> None:
    data.skip(_MOMENT)
    data.skip_string()


def _stream(data: RdbBytes, kind: int) -> None:
    _pairs(data)  # an id, and the entries from there on
    for _ in range(3 if kind == _STREAM else 8):
        # how many, the last id; later also the first, the highest that was deleted, and how many ever were
        data.length()
    _each(data, lambda: _group(data, kind))


def _group(data: RdbBytes, kind: int) -> None:
    data.skip_string()
    for _ in range(2 if kind == _STREAM else 3):  # the last id that was delivered; how many were read
        data.length()
    for _ in range(data.length()):
        data.skip(_ENTRY + _MOMENT)
        data.length()
    _each(data, lambda: _consumer(data, kind))


def _consumer(data: RdbBytes, kind: int) -> None:
    data.skip_string()
    data.skip(_MOMENT if kind < _STREAM_3 else 2 * _MOMENT)  # when it was seen, and when it did something
    data.skip(_ENTRY * data.length())


def skip_module(data: RdbBytes) -> None:
    """The id of a module, and what it wrote of itself, up to its end."""
    data.length()
    while (what := data.length()) != _END:
        if what in (_SIGNED, _UNSIGNED):
            data.length()
        elif what == _FLOAT:
            data.skip(4)
        elif what == _DOUBLE:
            data.skip(8)
        elif what == _STRING:
            data.skip_string()
        else:
            raise data.damaged(f"a module wrote something of the kind {what}")


_SKIPS: dict[int, Callable[[RdbBytes], None]] = {
    **dict.fromkeys((0, 9, 10, 11, 12, 13, 16, 17, 20), RdbBytes.skip_string),
    **dict.fromkeys((1, 2, 14), _strings),
    3: _scored_as_text,
    4: _pairs,
    5: _scored,
    7: skip_module,
    _STREAM: lambda data: _stream(data, _STREAM),
    18: _nodes,
    _STREAM_2: lambda data: _stream(data, _STREAM_2),
    _STREAM_3: lambda data: _stream(data, _STREAM_3),
    24: _hash_with_ends,
    25: _packed_with_ends,
}

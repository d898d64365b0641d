"""Walk through a dump, key by key, without a server: what is in it, and each value as RESTORE takes it. Pure.

A server of another kind cannot load it (Valkey refuses dumps of Redis 7.4 and later, Redis those of Valkey
9), and one of another version would give its values in a form that the server they came from cannot read.
Here they stay as they were written.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import anycrc  # type: ignore[import-untyped]

from phoenix_orch.recovery.rdb_bytes import RdbBytes
from phoenix_orch.recovery.rdb_header import AUX, MAGIC, RdbHeader, format_of
from phoenix_orch.recovery.rdb_values import skip_module, skip_value, unknown

_SLOT_INFO, _FUNCTION, _MODULE_AUX = 0xF4, 0xF5, 0xF7
_IDLE, _FREQUENCY = 0xF8, 0xF9
_SIZES, _EXPIRES_MS, _EXPIRES_S, _DATABASE, _END = 0xFB, 0xFC, 0xFD, 0xFE, 0xFF
_CHECKSUM = anycrc.Model("CRC64-REDIS")
_FIRST_OPCODE = 0xF3
"""Below are kinds of values."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a dump."""

    database: int
    name: bytes
    kind: int
    """See `rdb_values.KINDS`."""
    expires: int
    """Milliseconds since 1970; 0: never."""
    value: bytes
    """As RESTORE takes it; empty where nobody asked for it."""


@dataclass(frozen=True, slots=True)
class Library:
    """Code of functions, as FUNCTION LOAD takes it."""

    code: bytes


def walk(read: Callable[[int], bytes], *, values: bool = True) -> Iterator[RdbHeader | Key | Library]:
    """Everything of a dump in its order, the header first. `read`: up to so many bytes; b"" at the end.

    Raises Corrupted for damage, Terminal for what this Phoenix does not know. The checksum of the dump is not
    looked at: whoever opens a copy has its SHA-256.
    """
    data = RdbBytes(read, keeps=values)
    magic, version = format_of(data.take(MAGIC))
    footer = struct.pack("<H", version)
    fields: dict[str, str] = {}
    database = expires = 0
    told = False
    while True:
        data.drop()
        code = data.byte()
        if code == AUX:
            name, value = data.string(), data.string()
            fields.setdefault(name.decode("utf-8", "replace"), value.decode("utf-8", "replace"))
            continue
        if not told:
            told = True
            yield RdbHeader(magic, version, fields)
        if code < _FIRST_OPCODE:
            name = data.string()
            begin = data.position
            skip_value(data, code, magic)
            body = b""
            if values:
                body = bytes((code,)) + data.since(begin) + footer
                body += struct.pack("<Q", _CHECKSUM.calc(body))
            yield Key(database, name, code, expires, body)
            expires = 0
        elif code == _EXPIRES_MS:
            expires = int.from_bytes(data.take(8), "little", signed=True)
        elif code == _EXPIRES_S:
            expires = 1000 * int.from_bytes(data.take(4), "little", signed=True)
        elif code == _DATABASE:
            database = data.length()
        elif code == _FUNCTION:
            yield Library(data.string())
        elif code == _END:
            return
        else:
            _passed(data, code)


def _passed(data: RdbBytes, code: int) -> None:
    """Past something that says nothing of the data."""
    if code == _SIZES:
        data.length()
        data.length()
    elif code == _IDLE:
        data.length()
    elif code == _FREQUENCY:
        data.skip(1)
    elif code == _SLOT_INFO:
        for _ in range(3):
            data.length()
    elif code == _MODULE_AUX:
        skip_module(data)
    else:
        raise unknown(f"what is marked {code:#x}")

"""The lines of a watch. Pure.

A watch is JSON, one event a line. Of a connection that breaks the last line may be half: it is dropped,
and the watch goes on from the version before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec

from phoenix_orch.kube.resources import Object, version_of

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes. No object is as large; what is, is no watch."""


class _Line(msgspec.Struct):
    type: str
    object: Object


_DECODER = msgspec.json.Decoder(_Line)


class Unreadable(ValueError):
    """A line that is no event."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """What happened. BOOKMARK: nothing, up to this version. ERROR: `object` is a Status."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]
    object: Object

    @property
    def version(self) -> str:
        return version_of(self.object)


class Lines:
    """Puts whole lines together from the pieces that come over the network."""

    def __init__(self) -> None:
        self._rest = bytearray()

    @property
    def unfinished(self) -> bool:
        """Whether there is a beginning of a line."""
        return bool(self._rest.strip())

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The lines that are complete now. Raises Unreadable for one without an end."""
        self._rest += piece
        if b"\n" not in piece:
            if len(self._rest) > LONGEST_LINE:
                raise Unreadable(f"a line of more than {LONGEST_LINE} bytes")
            return
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        yield from (line for line in lines if line.strip())


def event_of(line: bytes) -> WatchEvent:
    """Read one line. Raises Unreadable."""
    try:
        read = _DECODER.decode(line)
        event = WatchEvent(read.type, read.object)  # type: ignore[arg-type]
        if event.type not in {"ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"}:
            raise Unreadable(f"an event of type {read.type!r}")
        if event.type != "ERROR":
            _ = event.version
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise Unreadable("a line that is no event") from error
    return event

"""Lines of interest out of a page of metrics while it comes in, so that the rest is neither kept nor parsed.

Pure.

A program may make a label of every user: its page has a quarter of a million series then, and the parser of
prometheus_client takes some 20 microseconds for each. What is wanted of it are a few families.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

LONGEST_LINE = 8 * 1024
"""Bytes. A line of interest that is longer is no line of ours."""


class Interest(NamedTuple):
    """What is wanted of a page."""

    names: tuple[str, ...]
    """Of series, in full."""
    also: tuple[str, ...] = ()
    """Names of single series, without labels."""
    mark: str = ""
    """Has to be in lines of `names`."""


class Sieve:
    """Fed with the pieces of one page. `text` is a page again, of the lines of interest alone."""

    def __init__(self, interest: Interest, *, most: int) -> None:
        """`most`: so many lines of interest are allowed."""
        self._starts = tuple(f"{name}{end}".encode() for name in interest.names for end in "{ \t")
        self._also = tuple(f"{name} ".encode() for name in interest.also)
        self._mark = interest.mark.encode()
        self._names = interest.names
        self._most = most
        self._rest = b""
        self._kept: list[bytes] = []
        self._begun = False

    def feed(self, piece: bytes) -> None:
        """The next bytes. Raises ValueError when too many lines are of interest, or one is too long."""
        *whole, self._rest = (self._rest + piece).split(b"\n")
        self._take(whole)
        if len(self._rest) > LONGEST_LINE:
            if self._wanted(self._rest):
                raise ValueError(f"a line is more than {LONGEST_LINE} bytes long")
            self._rest = self._rest[:LONGEST_LINE]  # its beginning says what it is

    def text(self) -> str:
        """Of all that was fed. Raises ValueError as `feed`."""
        rest, self._rest = self._rest, b""
        self._take([rest])
        return b"\n".join([*self._kept, b""]).decode(errors="replace")

    def _take(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            if not self._begun and line.strip():
                self._begun = True  # the first line is kept whatever it is: it says what kind of text this is
                self._kept.append(line[:LONGEST_LINE])
            elif self._wanted(line):
                self._keep(line)

    def _wanted(self, line: bytes) -> bool:
        if line.startswith(self._starts):
            return self._mark in line
        return line.startswith(self._also)

    def _keep(self, line: bytes) -> None:
        if len(line) > LONGEST_LINE:
            raise ValueError(f"a line is {len(line)} bytes long")
        if len(self._kept) > self._most:
            counted = {name: self._count(name) for name in self._names}
            most = max(counted, key=lambda name: counted[name])
            found = f"more than {self._most:,} lines of interest, most of {most}"
            raise ValueError(f"{found}: give its labels fewer values (no user, no full path)")
        self._kept.append(line)

    def _count(self, name: str) -> int:
        return sum(line.startswith(name.encode()) for line in self._kept)

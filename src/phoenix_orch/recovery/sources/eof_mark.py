"""The end of a dump whose length its server does not know beforehand. Pure.

A diskless server announces 40 random bytes (`$EOF:<mark>`) and sends them once more after the dump. They
are no part of it; `redis-cli --rdb -` leaves them in, and so gives files that differ from the dump.
"""

from __future__ import annotations

LENGTH = 40


class EofMark:
    """Finds the mark in a stream and takes it off, however the stream is cut into pieces."""

    def __init__(self, mark: bytes, *, last: bool = True) -> None:
        """`last`: nothing follows the mark, so that only the end of what came has to be looked at. Else
        it is looked for everywhere."""
        if len(mark) != LENGTH:
            raise ValueError(f"a mark has {LENGTH} bytes, found {len(mark)}")
        self._mark = mark
        self._last = last
        self._held = b""
        """The last bytes that came, which may be the mark or its beginning: never more than 40."""
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """Bytes of the dump that are certain now. Nothing may be fed once it has ended."""
        joined = self._held + data
        at = self._found(joined)
        if at >= 0:
            self.ended, self._held = True, b""
            return joined[:at]
        keep = max(0, len(joined) - LENGTH)
        self._held = joined[keep:]
        return joined[:keep]

    def _found(self, joined: bytes) -> int:
        if self._last:
            return len(joined) - LENGTH if joined.endswith(self._mark) else -1
        return joined.find(self._mark)

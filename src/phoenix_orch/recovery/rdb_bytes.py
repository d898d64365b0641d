"""The bytes of a dump as they come, and the smallest things in them: lengths and strings.

    00xxxxxx                 a length of 6 bits            11000000  an integer of 1 byte
    01xxxxxx +1 byte         of 14                         11000001  of 2
    10000000 +4 bytes        of 32, big end first          11000010  of 4, small end first
    10000001 +8 bytes        of 64                         11000011  compressed (LZF): two lengths, bytes

Source: rdb.c of Valkey 9 and Redis 8. Memory is that of the largest item, and a piece of the stream.
"""

from __future__ import annotations

from collections.abc import Callable

from phoenix_orch.recovery.errors import Corrupted

CHUNK = 1024 * 1024
LONGEST_STRING = 1 << 32
"""Bytes; servers take 512 MB and are seldom told to take more."""
_OTHER = "choose another copy; `phoenix backup list` shows which hold"
_LZF = 3


class RdbBytes:
    """What was read and not yet passed. Raises Corrupted where the dump ends or says what it cannot mean."""

    def __init__(self, read: Callable[[int], bytes], *, keeps: bool = True) -> None:
        """`read`: up to so many bytes; b"" at the end. `keeps`: what is passed can be had with `since`;
        without, memory is that of the largest item that is looked at, however long what is passed is."""
        self._read = read
        self._keeps = keeps
        self._data = bytearray()
        self._at = 0
        self._before = 0
        """Bytes that were passed and dropped."""

    @property
    def position(self) -> int:
        """Bytes from the beginning of the dump."""
        return self._before + self._at

    def drop(self) -> None:
        """What was passed is needed no more."""
        if self._at >= CHUNK:
            self._forget()

    def since(self, position: int) -> bytes:
        """What was passed since then; nothing may have been dropped."""
        return bytes(self._data[position - self._before : self._at])

    def skip(self, count: int) -> None:
        have = len(self._data) - self._at
        while not self._keeps and count > have:
            count -= have
            self._at = len(self._data)
            self._fetch()
            have = len(self._data) - self._at
        self._need(count)
        self._at += count

    def take(self, count: int) -> bytes:
        self._need(count)
        begin = self._at
        self._at += count
        return bytes(self._data[begin : self._at])

    def byte(self) -> int:
        if self._at == len(self._data):
            self._need(1)
        self._at += 1
        return self._data[self._at - 1]

    def _need(self, count: int) -> None:
        while len(self._data) - self._at < count:
            self._fetch()

    def _fetch(self) -> None:
        if not self._keeps:
            self._forget()
        more = self._read(CHUNK)
        if not more:
            raise self.damaged("it ends in the middle")
        self._data += more

    def _forget(self) -> None:
        del self._data[: self._at]
        self._before += self._at
        self._at = 0

    def length(self) -> int:
        """Of what follows, or how many. Raises Corrupted for a string that stands in its place."""
        first = self.byte()
        if first < 0xC0:
            return self._length(first)
        raise self.damaged(f"there is no length of the kind {first:#x}")

    def _length(self, first: int) -> int:
        if first < 0x40:
            return first
        if first < 0x80:
            return (first & 0x3F) << 8 | self.byte()
        if first == 0x80:
            return int.from_bytes(self.take(4), "big")
        if first == 0x81:
            return int.from_bytes(self.take(8), "big")
        raise self.damaged(f"there is no length of the kind {first:#x}")

    def skip_string(self) -> None:
        """Past a string, without looking at it."""
        first = self.byte()
        if first < 0xC0:
            self.skip(self._size(self._length(first)))
        elif first - 0xC0 < _LZF:
            self.skip(1 << (first - 0xC0))
        elif first - 0xC0 == _LZF:
            size = self._size(self.length())
            self.length()
            self.skip(size)
        else:
            raise self.damaged(f"there is no string of the kind {first:#x}")

    def string(self) -> bytes:
        """The next string as it is meant."""
        first = self.byte()
        if first < 0xC0:
            return self.take(self._size(self._length(first)))
        if first - 0xC0 < _LZF:
            return b"%d" % int.from_bytes(self.take(1 << (first - 0xC0)), "little", signed=True)
        if first - 0xC0 == _LZF:
            size, full = self._size(self.length()), self._size(self.length())
            found = unpacked(self.take(size), full)
            if found is not None:
                return found
        raise self.damaged("a string is not what it says")

    def damaged(self, why: str) -> Corrupted:
        return Corrupted(f"the dump is damaged near byte {self.position:,}: {why}", remedy=_OTHER)

    def _size(self, size: int) -> int:
        if size > LONGEST_STRING:
            raise self.damaged(f"a string of {size:,} bytes")
        return size


def unpacked(packed: bytes, size: int) -> bytes | None:
    """What LZF had made of `size` bytes; None for what it never makes.

    A control byte below 32 is followed by one byte more than it says, as they are; another one refers back:
    its three upper bits (or, all set, one more byte) are the length less 2, the rest and a byte the distance
    less 1.
    """
    out, at = bytearray(), 0
    try:
        while at < len(packed):
            control = packed[at]
            at += 1
            if control < 32:
                out += packed[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += packed[at]
                at += 1
            begin = len(out) - ((control & 0x1F) << 8) - packed[at] - 1
            at += 1
            length += 2
            if begin < 0 or len(out) + length > size:
                return None
            while length:  # what is copied may reach into what is being written
                part = out[begin : begin + length]
                out += part
                begin += len(part)
                length -= len(part)
    except IndexError:
        return None
    return bytes(out) if len(out) == size else None

"""Where frames of zstd begin and end, without decompressing them (RFC 8878, 3.1). Pure.

A decompressor that is fed a stream takes an early end for the end. This one knows.
"""

from __future__ import annotations

from phoenix_orch.recovery.errors import Corrupted

_MAGIC = 0xFD2FB528
_SKIPPABLE, _SKIPPABLE_MASK = 0x184D2A50, 0xFFFFFFF0
_RLE, _RESERVED = 1, 3
_CONTENT_SIZE_BYTES = (0, 2, 4, 8)
_DICTIONARY_BYTES = (0, 1, 2, 4)


class Frames:
    """Follows a stream of frames that is fed in pieces of any size."""

    def __init__(self) -> None:
        self.offset = 0
        """Bytes that were fed."""
        self.count = 0
        """Frames that are whole."""
        self._skip = 0
        self._field = bytearray()
        self._wanted = 4
        self._then = self._magic
        self._checksum = False

    @property
    def whole(self) -> bool:
        """The stream may end here: every frame has ended, and there is one."""
        return self.count > 0 and self._then == self._magic and not self._field and self._skip == 0

    def feed(self, data: bytes) -> None:
        """Raises Corrupted where no frame can go on like that."""
        at, size = 0, len(data)
        self.offset += size
        while at < size:
            if self._skip:
                step = min(self._skip, size - at)
                self._skip -= step
                at += step
                continue
            step = min(self._wanted - len(self._field), size - at)
            self._field += data[at : at + step]
            at += step
            if len(self._field) == self._wanted:
                value, self._field = bytes(self._field), bytearray()
                self._then(value)

    def _magic(self, value: bytes) -> None:
        magic = int.from_bytes(value, "little")
        if magic == _MAGIC:
            self._wanted, self._then = 1, self._descriptor
        elif magic & _SKIPPABLE_MASK == _SKIPPABLE:
            self._wanted, self._then = 4, self._skippable
        else:
            raise Corrupted(
                f"no frame of zstd begins near byte {self.offset:,} of the compressed stream",
                remedy="use another backup; phoenix backup list shows which hold",
            )

    def _skippable(self, value: bytes) -> None:
        self._skip = int.from_bytes(value, "little")
        self._wanted, self._then = 4, self._magic

    def _descriptor(self, value: bytes) -> None:
        flags = value[0]
        single = bool(flags & 0x20)
        self._checksum = bool(flags & 0x04)
        size = _CONTENT_SIZE_BYTES[flags >> 6] or (1 if single else 0)
        self._skip = (0 if single else 1) + _DICTIONARY_BYTES[flags & 0x03] + size
        self._wanted, self._then = 3, self._block

    def _block(self, value: bytes) -> None:
        header = int.from_bytes(value, "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if kind == _RESERVED:
            raise Corrupted(
                f"a block of a reserved kind near byte {self.offset:,} of the compressed stream",
                remedy="use another backup; phoenix backup list shows which hold",
            )
        self._skip = 1 if kind == _RLE else size
        if last:
            self._skip += 4 if self._checksum else 0
            self._wanted, self._then = 4, self._magic
            self.count += 1

"""SHA-256 and length of what passes."""

from __future__ import annotations

import hashlib
import re

_HEADER_END = re.compile(rb"\n--- [A-Za-z0-9+/]+\n")
_LONGEST_HEADER = 64 * 1024


class Digest:
    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._hash.update(data)

    def passed(self, data: bytes) -> bytes:
        self.add(data)
        return data

    @property
    def hex(self) -> str:
        return self._hash.hexdigest()


class SealedDigest(Digest):
    """Of what age has written: of its header, too."""

    def __init__(self) -> None:
        super().__init__()
        self._beginning = b""

    def add(self, data: bytes) -> None:
        if self.size < _LONGEST_HEADER:
            self._beginning += data[: _LONGEST_HEADER - self.size]
        super().add(data)

    @property
    def header_hex(self) -> str:
        """Of the lines before the encrypted data; empty where they do not end like those of age."""
        end = _HEADER_END.search(self._beginning)
        return hashlib.sha256(self._beginning[: end.end()]).hexdigest() if end else ""

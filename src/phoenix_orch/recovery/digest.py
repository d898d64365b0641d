"""SHA-256 and length of what passes."""

from __future__ import annotations

import hashlib


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

"""The root of a Merkle tree over lines of any number, in memory for their logarithm. Pure.

As RFC 6962, section 2.1: leaves and inner nodes are hashed with different first bytes, so that no inner node
can pass for a leaf.
"""

from __future__ import annotations

import hashlib


class Merkle:
    """Add the leaves in their order; the root may be asked for at any time."""

    def __init__(self) -> None:
        self.leaves = 0
        self._whole: list[tuple[int, bytes]] = []
        """Height and hash of the complete trees so far, the tallest first."""

    def add(self, leaf: bytes) -> None:
        self.leaves += 1
        height, node = 0, hashlib.sha256(b"\0" + leaf).digest()
        while self._whole and self._whole[-1][0] == height:
            height, node = height + 1, _inner(self._whole.pop()[1], node)
        self._whole.append((height, node))

    def root(self) -> str:
        """Hexadecimal; of no leaves it is the hash of nothing."""
        if not self._whole:
            return hashlib.sha256(b"").hexdigest()
        *rest, (_, node) = self._whole
        for _, left in reversed(rest):
            node = _inner(left, node)
        return node.hex()


def _inner(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()

"""Whether a copy has a key, in 8 bytes a key: by their digests, sorted.

Two names with one digest would make us keep a key that is in no copy: with a hundred million keys on either
side that is a chance of one in two thousand.
"""

from __future__ import annotations

import bisect
import hashlib
from array import array
from collections.abc import Iterable

from phoenix_orch.recovery.rdb_walk import Key


class KeySet:
    """Names of keys, by database."""

    def __init__(self, keys: Iterable[Key], now: int) -> None:
        """`now`: milliseconds; what has expired by then is in no set."""
        self.databases: dict[int, int] = {}
        """How many keys each has."""
        self.expired = 0
        found = array("Q")
        for one in keys:
            if 0 < one.expires <= now:
                self.expired += 1
                continue
            self.databases[one.database] = self.databases.get(one.database, 0) + 1
            found.append(_digest(one.database, one.name))
        self._digests = array("Q", sorted(found))

    def __len__(self) -> int:
        return len(self._digests)

    def has(self, database: int, name: bytes) -> bool:
        digest = _digest(database, name)
        place = bisect.bisect_left(self._digests, digest)
        return place < len(self._digests) and self._digests[place] == digest


def _digest(database: int, name: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(b"%d:%b" % (database, name), digest_size=8).digest(), "big")

"""Identifiers: revision hashes that depend only on content, and sortable ids for commands."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base 32, lower case: no i, l, o, u


def revision_hash(content: Mapping[str, object]) -> str:
    """Ten hexadecimal digits of the SHA-256 of `content` in canonical JSON.

    The same content gives the same hash on every machine and in every release of Phoenix.
    """
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def sortable_id(now: datetime) -> str:
    """A 16-character id that sorts by time: 9 of milliseconds since 1970, 7 random (35 bits)."""
    milliseconds = (now - _EPOCH) // timedelta(milliseconds=1)  # exact: 1.015 * 1000 is below 1015
    head = "".join(_ALPHABET[(milliseconds >> shift) & 31] for shift in range(40, -1, -5))
    return head + "".join(secrets.choice(_ALPHABET) for _ in range(7))

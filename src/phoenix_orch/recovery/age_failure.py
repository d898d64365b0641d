"""Why age does not open what is stored."""

from __future__ import annotations

from enum import StrEnum


class Why(StrEnum):
    NO_MATCH = "no-match"
    """None of the keys is one that it was encrypted for."""
    MORE = "more"
    """Something follows what was encrypted."""
    BROKEN = "broken"


class NotOpened(Exception):
    def __init__(self, why: Why, taken: int) -> None:
        super().__init__(why)
        self.why = why
        self.taken = taken
        """Bytes that were read by then."""


def failed(error: Exception) -> Why:
    """By the words of pyrage."""
    return Why.NO_MATCH if "no matching keys" in str(error).lower() else Why.BROKEN

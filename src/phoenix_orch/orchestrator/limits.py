"""How much people and programs may send at once."""

from __future__ import annotations

LARGEST_BODY = 1024 * 1024
"""Bytes of the body of a request. A phoenix.yaml of the largest size allowed fits four times."""
LONGEST_REASON = 500
"""Characters of a reason."""

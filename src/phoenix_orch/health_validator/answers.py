"""What a status says of a request: it was answered, it failed, or nobody waited for the answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Kind = Literal["ok", "error", "abandoned"]

LABELS = ("code", "status", "status_code", "envoy_response_code")
"""Labels under which counters tell a status."""

GAVE_UP = frozenset({"499", "0"})
"""The client went away before there was an answer: 499 as nginx and Traefik say it, 0 where no status was
ever written."""


def status(labels: Mapping[str, str]) -> str:
    """As a series tells it; empty where it tells none."""
    return next((labels[label] for label in LABELS if label in labels), "")


def kind(status: str) -> Kind:
    """Of a request. Without a status (empty) it was answered: only answers are counted then."""
    if status in GAVE_UP:
        return "abandoned"
    return "error" if status.startswith("5") else "ok"

"""Logs go to standard error, and never stop the work: a closed pipe or a full disk loses lines, no loop."""

from __future__ import annotations

import contextlib
import sys

import structlog


class _Stream:
    """Standard error as it is at the time of writing; what cannot be written is left out."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


def configure_logs() -> None:
    """For a process that runs Phoenix; once, before anything is logged."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(_Stream()))  # type: ignore[arg-type]

"""The standard streams of the program: readable everywhere; they remember why they could not be written."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any


class _Remembering(io.FileIO):
    """A file descriptor with what was wrong with it. Who asks later cannot try again: what is not written may
    be gone with PYTHONUNBUFFERED, and a try would write something."""

    failed: OSError | None = None

    def write(self, data: Any, /) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError as error:
            self.failed = error
            raise


def readable_streams() -> None:
    """A terminal that lacks a character gets a question mark; what is written to a stream that was closed
    before the start goes nowhere."""
    sys.stdin = sys.stdin or _nowhere("r")
    sys.stdout = remembering(sys.stdout) if sys.stdout else _nowhere("w")
    sys.stderr = remembering(sys.stderr) if sys.stderr else _nowhere("w")


def _nowhere(mode: str) -> Any:
    return open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123 - for as long as the program lasts


def remembering(stream: Any) -> Any:
    """The stream on the same descriptor, so that `failure` can tell what was wrong with it."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Remembering(stream.fileno(), "wb", closefd=False)),
        encoding=stream.encoding,
        errors="replace",
        line_buffering=stream.line_buffering or stream.write_through,
    )


def failure(stream: Any) -> OSError | None:
    """Why the stream did not take what was written to it, now or before."""
    known = getattr(getattr(getattr(stream, "buffer", None), "raw", None), "failed", None)
    if isinstance(known, OSError):
        return known
    try:
        stream.flush()
    except OSError as error:
        return error
    return None


def silence(stream: Any) -> None:
    """Let the interpreter flush into nothing at exit instead of complaining about what cannot be written."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

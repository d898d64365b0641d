"""uvicorn as a part of a process that has more to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import uvicorn


class GuestServer(uvicorn.Server):
    """Leaves signals to the process that serves."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

"""One model in a file of the data directory: read at the start, held in memory, written before it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from phoenix_orch.kernel.errors import Retryable, Terminal
from phoenix_orch.orchestrator.layout import write_whole
from phoenix_orch.rollout.spec import Model

M = TypeVar("M", bound=Model)
T = TypeVar("T")


class Book(Generic[M]):
    """One process has the file at a time."""

    def __init__(self, path: Path, kind: type[M], empty: M) -> None:
        """Raises Terminal for a file that cannot be read: what it holds decides who is let in."""
        self._path = path
        self._lock = asyncio.Lock()
        self.held = _read(path, kind, empty)

    async def read(self) -> M:
        return self.held

    async def change(self, how: Callable[[M], tuple[M, T]]) -> T:
        """Hold what `how` makes of what is held; its second value is for the caller.

        Raises Retryable where it cannot be written, and then nothing has changed; and what `how` raises.
        """
        async with self._lock:
            new, told = how(self.held)
            if new != self.held:
                text = new.model_dump_json(by_alias=True, indent=1)
                try:
                    await asyncio.to_thread(write_whole, self._path, text)
                except OSError as error:
                    raise Retryable(
                        f"{self._path} cannot be written: {error.strerror}",
                        remedy="mend that and try it again",
                    ) from error
                self.held = new
            return told


def _read(path: Path, kind: type[M], empty: M) -> M:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return empty
    except (OSError, ValidationError):  # their text would repeat what is in the file
        raise Terminal(
            f"{path} cannot be read",
            remedy="mend it, or move it away: then it is begun anew",
        ) from None

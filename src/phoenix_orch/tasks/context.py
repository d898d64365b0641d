"""What a running task is given: who it is, how long it may take, and where its words go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.kernel.masking import masked_assignments, told
from phoenix_orch.tasks.record import TaskRecord
from phoenix_orch.tasks.store import TaskStore

LONGEST_LINE = 4000
"""Characters of a line that are kept."""
PACE = 0.2
"""Seconds between two progresses that are kept; what comes in between is left out, the end is not."""
_QUICK = 4000
"""Characters in which secrets are found in no time."""
_FEW = 50
"""Lines."""


@dataclass
class TaskContext:
    """The world of one attempt."""

    record: TaskRecord
    store: TaskStore = field(repr=False)
    deadline: datetime
    """When the attempt is cancelled."""
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set before the attempt is cancelled: by a person, by its deadline, or as its worker ends."""
    when_lost: Callable[[], None] = field(default=lambda: None, repr=False)
    """Called when another worker has the task by now: nothing that this attempt does is heard any more."""
    _left_out: int = 0
    _told: float = float("-inf")

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def target(self) -> str:
        return self.record.target

    @property
    def attempt(self) -> int:
        """Number of the attempt, from 1."""
        return self.record.attempt

    @property
    def actor(self) -> str:
        """Who wanted the task."""
        return self.record.actor

    async def progress(self, fraction: float, text: str = "") -> None:
        """How far it is, from 0 to 1, and what it does now. May be called as often as one likes."""
        now = time.monotonic()
        if fraction < 1 and now - self._told < PACE:
            return
        self._told = now
        await self._tell(progress=min(1.0, max(0.0, fraction)), text=_line(text))

    async def log(self, *lines: str) -> None:
        """Lines for the task's log, each masked and cut to its longest. While the store is away they are left
        out, and the next line that is kept says how many."""
        if sum(map(len, lines)) < _QUICK and len(lines) < _FEW:
            await self._tell(lines=_lines(lines))
        else:  # looking for secrets in much of it takes longer than everybody else should wait
            await self._tell(lines=await asyncio.to_thread(_lines, lines))

    async def _tell(
        self, *, progress: float | None = None, text: str = "", lines: Sequence[str] = ()
    ) -> None:
        if self._left_out and lines:
            lines = [f"{self._left_out} lines were lost while the store was away", *lines]
        try:
            if not await self.store.tell(self.record, progress=progress, text=text, lines=lines):
                self.when_lost()
        except Retryable:
            self._left_out += max(0, len(lines) - (1 if self._left_out and lines else 0))
        else:
            self._left_out = 0 if lines else self._left_out


def _lines(texts: Sequence[str]) -> list[str]:
    return [_line(text) for text in texts]


def _line(text: str) -> str:
    """One line that may be shown."""
    shown = told(masked_assignments(text[: 2 * LONGEST_LINE]))
    return shown if len(shown) <= LONGEST_LINE else f"{shown[: LONGEST_LINE - 1]}…"

"""How far a backup is, told between threads: bytes so far, and the time that is left at this speed."""

from __future__ import annotations

import time
from collections.abc import Callable

from phoenix_orch.recovery.publish import Step, Told

_BEFORE = frozenset({Step.LEASED, Step.CLAIMED, Step.BEGUN})
"""Nothing has come yet."""
HALF = 0.5
"""Of a run: storing takes about as long as reading back."""


def waiting_for(component: str) -> str:
    """What a run waits for until the first byte comes."""
    if component.partition("/")[0] == "redis":
        return "waiting for the server's snapshot (repl-diskless-sync-delay there, 5 s by default)"
    return f"waiting for {component}"


class Meter:
    """Written by the thread that works, read by the loop that tells."""

    def __init__(
        self, expected: int, monotonic: Callable[[], float] = time.monotonic, *, waiting: str = ""
    ) -> None:
        """`expected`: bytes of the content; 0: not known before it was stored. `waiting`: said at first."""
        self._waiting = waiting
        self._expected = expected
        self._monotonic = monotonic
        self._begun = monotonic()
        self._stored = 0
        self._seen = 0
        self._step: Step | None = None
        self.warnings: list[str] = []

    def as_told(self, stop: Callable[[], bool]) -> Told:
        return Told(
            step=self._at,
            storing=self._storing,
            looking=self._looking,
            warn=self.warnings.append,
            stop=stop,
        )

    def _at(self, step: Step) -> None:
        if step is Step.STORED:
            self._expected = self._stored
        self._step = step

    def _storing(self, count: int) -> None:
        self._stored = count

    def _looking(self, count: int) -> None:
        self._seen = count

    def told(self) -> tuple[float, str]:
        """Part of the whole, and what is done now."""
        if self._step in _BEFORE and not self._stored:
            return 0.0, self._waiting
        alone = self._step is None
        share = HALF if not alone else 0.0
        done = self._part(self._stored) * share + self._part(self._seen) * (1 - share)
        count = self._seen or self._stored
        word = "looked at" if self._seen else "stored"
        text = f"{count / 1e6:.1f} MB of {self._expected / 1e6:.1f} MB {word}" if self._expected else ""
        if not self._expected and count:
            text = f"{count / 1e6:.1f} MB {word}"
        spent = self._monotonic() - self._begun
        if 0.05 < done < 1 and spent > 1:
            text += f", {spent / done - spent:.0f} s left"
        return min(done, 0.99), text

    def _part(self, count: int) -> float:
        return min(1.0, count / self._expected) if self._expected else 0.0

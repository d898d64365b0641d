"""Steps of a drill as they are done: each is timed, and what ends it is noted and not raised further."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.recovery.drill_report import Phase, Step
from phoenix_orch.recovery.errors import Stopped


class StepFailedError(Exception):
    """A step did not pass; it is in the ledger. What builds on it is not reached."""


@dataclass(slots=True)
class Note:
    """What a step has to say once it is done."""

    detail: str = ""
    bytes: int = 0

    def moved(self, count: int) -> None:
        """So many bytes until now."""
        self.bytes = count


@dataclass(frozen=True, slots=True)
class Subject:
    """What a step is about."""

    component: str = ""
    backup: str = ""
    tier: str = ""


@dataclass(slots=True)
class Ledger:
    """The steps so far."""

    told: Callable[[str], None] = lambda _: None
    """Hears of each step when it begins."""
    stop: Callable[[], bool] = lambda: False
    steps: list[Step] = field(default_factory=list)
    tools: dict[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def step(self, phase: Phase, subject: Subject) -> Iterator[Note]:
        """Raises StepFailedError when the body fails, and Stopped.

        Whatever the storage or a server says counts against the drill: recovery would not work now.
        """
        if self.stop():
            raise Stopped("the drill was stopped; nothing was recorded", remedy="start it again")
        self.told(f"{phase.value} {subject.component}".rstrip())
        note, begun, failure = Note(), time.monotonic(), ""
        try:
            yield note
        except Stopped:
            raise
        except PhoenixError as error:
            failure = error.message
        except OSError as error:
            failure = f"{error.filename or 'the scratch folder'}: {error.strerror or error}"
        self.steps.append(
            Step(
                phase=phase,
                component=subject.component,
                backup=subject.backup,
                tier=subject.tier,
                passed=not failure,
                seconds=round(time.monotonic() - begun, 3),
                bytes=note.bytes,
                detail=failure or note.detail,
            )
        )
        if failure:
            raise StepFailedError

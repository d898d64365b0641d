"""What one kind of task is allowed and promised: time, attempts, company, how long it is remembered."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec import Model

KIND_PATTERN = r"^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$"
Kind = Annotated[str, StringConstraints(pattern=KIND_PATTERN)]
"""Name of a kind of task: `prune`, `backup.verify`."""
LONGEST_KEY = 200
Key = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_KEY, pattern=r"^[!-~]+$")]
"""Of all tasks with one key at most one is waiting or running."""
Target = Annotated[str, StringConstraints(max_length=LONGEST_KEY, pattern=r"^[!-~]*$")]
"""What a task works on: the name of a service, of a backup; empty where there is no such thing."""

LONGEST_DEADLINE = timedelta(days=7)
LONGEST_CLEANUP = timedelta(minutes=10)
LONGEST_KEEP = timedelta(days=365)


class Priority(StrEnum):
    """Which queue a task waits in. Each has slots of its own, so that urgent ones never wait for others."""

    URGENT = "urgent"
    """What brings a system back: rollbacks, restores."""
    NORMAL = "normal"


class Retries(Model):
    """What happens when an attempt fails."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 1
    """Attempts altogether; 1 is none again."""
    wait: Duration = timedelta(seconds=5)
    """Time before the second attempt; twice as long before each further one."""
    longest: Duration = timedelta(minutes=10)
    """The longest of these times."""
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Part of each time that is cut off by chance, so that many tasks do not come back at once."""


class TaskSpec(Model):
    """One kind of task."""

    kind: Kind
    summary: str = ""
    """What it does, in a line."""
    priority: Priority = Priority.NORMAL
    deadline: Annotated[Duration, Field(gt=timedelta(0), le=LONGEST_DEADLINE)] = timedelta(hours=1)
    """Time that one attempt may take; then it is cancelled and has failed."""
    cleanup: Annotated[Duration, Field(le=LONGEST_CLEANUP)] = timedelta(seconds=10)
    """Time that a cancelled attempt gets to put things in order."""
    retries: Retries = Retries()
    deaths: Annotated[int, Field(ge=0, le=100)] = 3
    """How often its worker may die while it runs before it is given up as dead."""
    single: bool = False
    """Without a key of its own a task gets one from kind and target: never two for the same target."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """How many of the kind may run at once."""
    limit_per_target: Annotated[int, Field(ge=1)] | None = None
    """How many of the kind may run at once for one target."""
    keep: Annotated[Duration, Field(gt=timedelta(0), le=LONGEST_KEEP)] = timedelta(days=7)
    """How long record, result and log are kept after the end."""

    def key(self, id: str, target: str) -> str:  # noqa: A002 - the field's word
        """The key of a task that was given none."""
        return f"{self.kind}:{target}" if self.single else id


def back_off(retries: Retries, attempt: int, seed: str) -> timedelta:
    """Time between attempt number `attempt`, from 1, which has failed, and the next one.

    Exponential, bounded, and shortened by up to `jitter` of itself: the same for the same seed and attempt,
    so that a replay gives the same answer.
    """
    doublings = min(attempt - 1, 32)
    whole = min(retries.wait * 2**doublings, retries.longest) if retries.wait else timedelta(0)
    return whole * (1 - retries.jitter * fraction(f"{seed}:{attempt}"))


def fraction(seed: str) -> float:
    """A number from 0 up to but not including 1 that depends on the seed alone, evenly spread."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6]) / 2**48

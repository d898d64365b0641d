"""Which moments a schedule names, and which of them is due.

A slot is one moment of a schedule, in UTC, where no hour is missing or comes twice. Every worker finds the
same slots, whenever it was started, so that they can agree on who runs each. Slots that passed while nobody
could run them are counted, and the newest of them runs once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Annotated, Any, Self

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, model_validator

from phoenix_orch.kernel.units import Duration, format_duration
from phoenix_orch.rollout.spec import Model, Name
from phoenix_orch.tasks.spec import Kind, Target, fraction

MOST_COUNTED = 10_000
"""Missed slots are counted up to here: more are as many."""
SHORTEST = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FAR = datetime(9000, 1, 1, tzinfo=UTC)
_WORDS = {
    "@yearly": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def check_cron(text: str) -> str:
    """The text, when it names moments. Raises ValueError."""
    try:
        next(_cron(text, _EPOCH))
    except (CronSimError, StopIteration) as error:
        raise ValueError(
            f"{text!r} is no cron expression{f' ({error})' if str(error) else ''}; allowed: five fields "
            "(minute, hour, day of month, month, day of week), e.g. '30 2 * * 1-5', or " + ", ".join(_WORDS)
        ) from None
    return text


Cron = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(check_cron)]
"""Five fields as in crontab(5), or a word such as `@daily`; always in UTC."""
Interval = Annotated[Duration, Field(ge=SHORTEST)]


class Timing(Model):
    """When something is run again and again: `cron` or `every`, one of them."""

    cron: Cron | None = None
    every: Interval | None = None
    """Slots are whole multiples since 1970, so that all workers agree on them."""
    jitter: Duration = timedelta(0)
    """A slot runs late by a time up to this, which is another one for each slot and schedule."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.cron is None) == (self.every is None):
            raise ValueError("a schedule has either cron or every")
        return self

    def __str__(self) -> str:
        return self.cron or f"every {format_duration(self.every or SHORTEST)}"


class Schedule(Model):
    """A task that is run again and again."""

    name: Name
    timing: Timing
    kind: Kind
    arguments: dict[str, Any] = Field(default_factory=dict)
    target: Target = ""

    @property
    def key(self) -> str:
        """The key of its runs: the next one begins when the one before is over."""
        return f"schedule:{self.name}"


@dataclass(frozen=True, slots=True)
class Due:
    """A slot that has to run now, and how many before it passed without a run."""

    slot: datetime
    missed: int


def due(schedule: Schedule, last: datetime, now: datetime) -> Due | None:
    """The newest slot after `last` that is due at `now`; None while there is none."""
    slot = slot_until(schedule.timing, now)
    while slot is not None and slot > last and due_at(schedule, slot) > now:
        slot = slot_until(schedule.timing, slot - timedelta(microseconds=1))
    if slot is None or slot <= last:
        return None
    return Due(slot, missed=count_between(schedule.timing, last, slot))


def next_due(schedule: Schedule, last: datetime) -> datetime | None:
    """When the first slot after `last` runs; None for a schedule that has no more."""
    slot = slot_after(schedule.timing, last)
    return None if slot is None else due_at(schedule, slot)


def due_at(schedule: Schedule, slot: datetime) -> datetime:
    """When the slot runs: late by its own part of the jitter."""
    return slot + schedule.timing.jitter * fraction(f"{schedule.name}@{slot.isoformat()}")


def slot_until(timing: Timing, moment: datetime) -> datetime | None:
    """The last slot at or before `moment`."""
    if timing.every is not None:
        return _EPOCH + (moment - _EPOCH) // timing.every * timing.every
    whole = moment.replace(microsecond=0) + timedelta(seconds=1)
    return next(_cron(timing.cron or "", whole, reverse=True), None)


def slot_after(timing: Timing, moment: datetime) -> datetime | None:
    """The first slot after `moment`."""
    if timing.every is not None:
        return _EPOCH + ((moment - _EPOCH) // timing.every + 1) * timing.every
    return next(_cron(timing.cron or "", moment), None)


def count_between(timing: Timing, after: datetime, before: datetime) -> int:
    """How many slots lie between the two, neither counted; at most `MOST_COUNTED`."""
    if timing.every is not None:
        first = (after - _EPOCH) // timing.every + 1
        last = -((_EPOCH - before) // timing.every) - 1
        return max(0, min(MOST_COUNTED, last - first + 1))
    slots = takewhile(lambda slot: slot < before, _cron(timing.cron or "", after))
    return sum(1 for _ in islice(slots, MOST_COUNTED))


def _cron(text: str, moment: datetime, *, reverse: bool = False) -> CronSim:
    return CronSim(_WORDS.get(text, text), min(moment, _FAR), reverse)

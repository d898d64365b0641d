"""Time as a port: real, compressed for demonstrations, and by hand for tests.

Decisions never ask for the time; shells take `now` from a Clock and pass it in.

Within one process time never steps: it is the wall clock read once at the start plus the
monotonic clock, so that an administrator's or NTP's correction cannot shorten a phase.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where shells get time from."""

    def now(self) -> datetime:
        """The present, aware, in UTC."""
        ...

    async def sleep(self, duration: timedelta) -> None:
        """Wait until `duration` of this clock's time has passed."""
        ...

    def real(self, duration: timedelta) -> timedelta:
        """How long `duration` of this clock lasts on a wrist watch."""
        ...

    def wall(self, moment: datetime) -> datetime:
        """What a clock on the wall showed at `moment` of this clock."""
        ...


class RealClock:
    """Wall time that does not step while the process lives."""

    def __init__(self) -> None:
        self._wall = datetime.now(UTC)
        self._monotonic = time.monotonic()

    def now(self) -> datetime:
        return self._wall + timedelta(seconds=time.monotonic() - self._monotonic)

    async def sleep(self, duration: timedelta) -> None:
        await asyncio.sleep(max(0.0, duration.total_seconds()))

    def real(self, duration: timedelta) -> timedelta:
        return duration

    def wall(self, moment: datetime) -> datetime:
        return moment


class ScaledClock:
    """Time that runs `speed` times as fast since `epoch`.

    The epoch is kept with the data, so that a process started later continues the same
    compressed time line instead of jumping back to the wall clock.
    """

    def __init__(self, speed: float, epoch: datetime) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be above 0, found {speed}")
        self.speed = speed
        self._epoch = epoch
        self._base = RealClock()

    def now(self) -> datetime:
        return self._epoch + (self._base.now() - self._epoch) * self.speed

    async def sleep(self, duration: timedelta) -> None:
        await self._base.sleep(duration / self.speed)

    def real(self, duration: timedelta) -> timedelta:
        return duration / self.speed

    def wall(self, moment: datetime) -> datetime:
        return self._epoch + (moment - self._epoch) / self.speed


class ManualClock:
    """Time that moves only when a test says so. `sleep` moves it and yields once."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, duration: timedelta) -> None:
        self._now += duration

    async def sleep(self, duration: timedelta) -> None:
        self.advance(duration)
        await asyncio.sleep(0)

    def real(self, duration: timedelta) -> timedelta:  # noqa: ARG002 - takes no real time
        return timedelta(0)

    def wall(self, moment: datetime) -> datetime:
        return moment

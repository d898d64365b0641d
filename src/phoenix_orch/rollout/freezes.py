"""Freeze windows: times in which no release begins. Pure.

A window is given by dates, or comes again by cron; a person may also begin one with a word, and end it. What
it holds is the beginning of a release. Taking back (abort, rollback, undo) is never held by anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from phoenix_orch.kernel.told import Told
from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec import MOST, Model, Name
from phoenix_orch.rollout.status import Obstacle

FROZEN = "Frozen"
"""Reason of the obstacle that a freeze is."""
_CHAINED = 100
"""Windows that follow each other without a gap and are looked through for the end of all."""


def _moment(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no moment; write a date or a date with a time: 2026-12-20, 2026-12-20T18:00"
        ) from None
    return text


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{text!r} is no time zone; write one of IANA's: UTC, Europe/Vienna") from None
    return text


def _cron(text: str) -> str:
    try:
        next(CronSim(text, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration):
        raise ValueError(
            f"{text!r} is no cron expression that comes true; write minute, hour, day, month, weekday: "
            "0 16 * * FRI"
        ) from None
    return text


Moment = Annotated[str, StringConstraints(max_length=40), AfterValidator(_moment)]
"""A date, or a date with a time; without an offset it is in the window's zone."""
Pattern = Annotated[str, StringConstraints(pattern=r"^[-a-z0-9*?]{1,63}$")]
UnderWay = Literal["continue", "pause"]


class Freeze(Model):
    """One window, or one that comes again: either `from` and `until`, or `cron` and `duration`."""

    name: Name
    """Shown wherever a release waits for it."""
    begin: Moment | None = Field(default=None, alias="from")
    """When it begins; left out: it is in force already."""
    until: Moment | None = None
    """When it ends; left out: when a person ends it."""
    cron: Annotated[str, StringConstraints(max_length=100), AfterValidator(_cron)] | None = None
    """When it begins each time: minute, hour, day, month, weekday."""
    duration: Duration | None = None
    """How long it lasts each time."""
    zone: Annotated[str, StringConstraints(max_length=64), AfterValidator(_zone)] = "UTC"
    """Zone of cron, and of moments without an offset."""
    rollouts: Annotated[tuple[Pattern, ...], Field(min_length=1, max_length=MOST)] = ("*",)
    """Rollouts that it is about; `*` stands for any letters, `?` for one."""
    reason: Annotated[Told, Field(max_length=500)] = ""
    """Why, for whoever has to wait."""
    releases_under_way: UnderWay = "continue"
    """What becomes of a release that has begun before: it goes on, or gets no more weight until the end."""

    @field_validator("duration")
    @classmethod
    def _lasts(cls, duration: timedelta | None) -> timedelta | None:
        if duration == timedelta(0):
            raise ValueError("a window that lasts no time freezes nothing")
        return duration

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        again = self.cron is not None
        if again != (self.duration is not None):
            raise ValueError("'cron' says when a window begins and 'duration' how long it lasts: give both")
        if again and (self.begin is not None or self.until is not None):
            raise ValueError("a freeze has either 'from' and 'until', or 'cron' and 'duration'")
        first, last = self._at(self.begin), self._at(self.until)
        if first is not None and last is not None and last <= first:
            raise ValueError("'until' has to be later than 'from'")
        return self

    def about(self, rollout: str) -> bool:
        return any(fnmatchcase(rollout, pattern) for pattern in self.rollouts)

    def _at(self, text: str | None) -> datetime | None:
        """The moment in UTC."""
        if text is None:
            return None
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            found = found.replace(tzinfo=ZoneInfo(self.zone))
        return found.astimezone(UTC)

    def window(self, now: datetime) -> Window | None:
        """The window that `now` lies in. Its end is the first moment that is not in it."""
        if self.cron is not None:
            return self._recurring(now)
        begin, until = self._at(self.begin), self._at(self.until)
        if (begin is not None and now < begin) or (until is not None and now >= until):
            return None
        return Window(begin, until)

    def following(self, now: datetime) -> Window | None:
        """The first window that begins after `now`."""
        if self.cron is not None:
            begin = self._fires(now)
            return Window(begin, begin + self._lasting) if begin is not None else None
        begin = self._at(self.begin)
        return Window(begin, self._at(self.until)) if begin is not None and begin > now else None

    @property
    def _lasting(self) -> timedelta:
        return self.duration or timedelta(0)

    def _recurring(self, now: datetime) -> Window | None:
        """The last time that it began; windows that touch are one, as far as anybody looks."""
        begin = self._fires(now + timedelta(seconds=1), back=True)
        if begin is None or begin + self._lasting <= now:
            return None
        last = begin
        for _ in range(_CHAINED):
            until = last + self._lasting
            touching = self._fires(until + timedelta(seconds=1), back=True)
            if touching is None or touching <= last:
                return Window(begin, until)
            last = touching
        return Window(begin, None)

    def _fires(self, at: datetime, *, back: bool = False) -> datetime | None:
        """The next time after `at`, or the last one before it."""
        local = at.astimezone(ZoneInfo(self.zone))
        try:
            return next(CronSim(self.cron or "", local, reverse=back)).astimezone(UTC)
        except StopIteration:
            return None


@dataclass(frozen=True, slots=True)
class Window:
    """From when until when, in UTC; None: since ever, or until a person ends it."""

    begin: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class OpenFreeze:
    """A freeze with the window that is open now."""

    freeze: Freeze
    window: Window


def in_force(freezes: Iterable[Freeze], rollout: str, now: datetime) -> Iterator[OpenFreeze]:
    """Every freeze that this rollout is in now."""
    for freeze in freezes:
        if freeze.about(rollout) and (window := freeze.window(now)) is not None:
            yield OpenFreeze(freeze, window)


def frozen(freezes: Iterable[Freeze], rollout: str, now: datetime) -> OpenFreeze | None:
    """The freeze that keeps a release of this rollout from beginning: of several the one that ends last."""
    return max(in_force(freezes, rollout, now), key=_end, default=None)


def paused(freezes: Iterable[Freeze], rollout: str, now: datetime) -> OpenFreeze | None:
    """The freeze that keeps a release that is under way from getting more weight."""
    strict = (one for one in freezes if one.releases_under_way == "pause")
    return frozen(strict, rollout, now)


def _end(one: OpenFreeze) -> tuple[bool, datetime]:
    until = one.window.until
    return until is None, until or datetime.max.replace(tzinfo=UTC)


def obstacle(found: OpenFreeze, rollout: str) -> Obstacle:
    """What a release of `rollout` is told, with what to do."""
    until = found.window.until
    ends = f"until {until:%Y-%m-%dT%H:%M:%SZ}" if until is not None else "until a person ends it"
    why = f" ({found.freeze.reason})" if found.freeze.reason else ""
    return Obstacle(
        reason=FROZEN,
        message=f"frozen by {found.freeze.name} {ends}{why}; it goes on by itself then, or now with "
        f"`phoenix freeze override {rollout} --reason ...`",
    )

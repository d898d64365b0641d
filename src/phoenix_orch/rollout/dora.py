"""The four numbers of delivery (DORA) from the history of releases. Pure.

Phoenix knows a release from the moment its revision is wanted, not from the commit. What it measures is:

- **deployment frequency**: releases that were promoted, their bake over, per day of the window;
- **lead time**: from the moment the revision was first wanted to the end of its release, bake included.
  What was wanted before (a version that comes back) counts from the beginning of its own release;
- **change failure rate**: of the changes that ended, the share that was taken back, before the promotion or
  during the bake, or that was undone after it;
- **time to restore**: from the decision to take a change back until stable was seen to serve everybody
  again, and was verified. How long users suffered before that decision is not in it.

Changes that nobody judged (cancelled, superseded) count nowhere. A return to what served before is no change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import Annotated

from pydantic import PlainSerializer, WithJsonSchema

from phoenix_orch.rollout.spec import Model
from phoenix_orch.rollout.status import Outcome, Release

_Z = 1.959964
"""Of the normal distribution, for 95 %."""

Seconds = Annotated[
    timedelta,
    PlainSerializer(lambda span: round(span.total_seconds(), 3), when_used="json"),
    WithJsonSchema({"type": "number", "description": "Seconds."}),
]


class Spans(Model):
    """Some durations in seconds. Null without any."""

    n: int
    median: Seconds | None = None
    longest: Seconds | None = None


class Share(Model):
    """A share of a count, with the interval of Wilson that holds the true one 95 times in 100."""

    n: int
    of: int
    rate: float | None = None
    """0..1; null without a count."""
    lower: float | None = None
    upper: float | None = None


class Dora(Model):
    """The numbers of one rollout, or of all together."""

    rollout: str
    """Empty: all together."""
    deployments: int
    per_day: float
    lead_time: Spans
    change_failures: Share
    caught: int
    """Of the failures: those taken back before they served everybody."""
    time_to_restore: Spans
    since: datetime
    """From when on the history is whole: later than the window's begin where older releases are kept no
    more."""


class DoraReport(Model):
    """The numbers over one window."""

    begin: datetime
    end: datetime
    total: Dora
    rollouts: tuple[Dora, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of one rollout."""

    rollout: str
    history: tuple[Release, ...]
    """Newest first."""
    wanted: Mapping[str, datetime] = field(default_factory=dict)
    """When each revision was first wanted."""


@dataclass(frozen=True, slots=True)
class _Change:
    """One release that was judged, as the numbers see it."""

    lead: timedelta | None
    failed: bool
    caught: bool
    restored: timedelta | None
    deployed: bool


def report(records: Iterable[Record], end: datetime, window: timedelta, *, kept: int) -> DoraReport:
    """`kept`: releases that a history holds at most; one that is full may have lost older ones."""
    begin = end - window
    each, every, first = [], list[_Change](), begin
    for record in sorted(records, key=lambda one: one.rollout):
        changes = _changes(record, begin, end)
        since = _whole_since(record.history, begin, kept)
        each.append(_dora(record.rollout, changes, since, end))
        every += changes
        first = max(first, since)
    return DoraReport(begin=begin, end=end, total=_dora("", every, first, end), rollouts=tuple(each))


def _whole_since(history: Sequence[Release], begin: datetime, kept: int) -> datetime:
    return max(begin, history[-1].ended) if len(history) >= kept else begin


def _changes(record: Record, begin: datetime, end: datetime) -> list[_Change]:
    oldest_first = sorted(record.history, key=lambda one: one.number)
    found, promoted, seen = [], set[str](), set[str]()
    for index, release in enumerate(oldest_first):
        # A release replaced what had served before it, also where that one is kept no more.
        back = release.outcome is Outcome.PROMOTED and release.revision in promoted
        if release.outcome is Outcome.PROMOTED:
            promoted |= {release.revision} | ({release.replaced} if release.replaced else set())
        judged = release.outcome in (Outcome.PROMOTED, Outcome.ROLLED_BACK)
        if judged and not back and begin <= release.ended <= end:
            found.append(
                _change(record, release, oldest_first[index + 1 :], repeated=release.revision in seen)
            )
        seen.add(release.revision)
    return found


def _change(record: Record, release: Release, later: Sequence[Release], *, repeated: bool) -> _Change:
    if release.outcome is Outcome.ROLLED_BACK:
        cause = release.cause
        restored = release.ended - cause.at if cause is not None else None
        return _Change(None, failed=True, caught=release.weight < 100, restored=restored, deployed=False)
    began = release.started
    if not repeated:
        began = record.wanted.get(release.revision, began)
    lead = release.ended - began if began is not None and began <= release.ended else None
    undone = next((one for one in later if one.outcome is Outcome.PROMOTED), None)
    failed = undone is not None and undone.revision == release.replaced
    restored = undone.ended - undone.started if failed and undone is not None and undone.started else None
    return _Change(lead, failed=failed, caught=False, restored=restored, deployed=True)


def _dora(rollout: str, changes: Sequence[_Change], since: datetime, end: datetime) -> Dora:
    deployed = sum(one.deployed for one in changes)
    days = (end - since) / timedelta(days=1)
    return Dora(
        rollout=rollout,
        deployments=deployed,
        per_day=round(deployed / days, 4) if days > 0 else 0.0,
        lead_time=_spans(one.lead for one in changes),
        change_failures=_share(sum(one.failed for one in changes), len(changes)),
        caught=sum(one.caught for one in changes),
        time_to_restore=_spans(one.restored for one in changes),
        since=since,
    )


def _spans(found: Iterable[timedelta | None]) -> Spans:
    known = [one for one in found if one is not None]
    if not known:
        return Spans(n=0)
    middle = median(span.total_seconds() for span in known)
    return Spans(n=len(known), median=timedelta(seconds=middle), longest=max(known))


def _share(n: int, of: int) -> Share:
    if of == 0:
        return Share(n=n, of=of)
    rate, square = n / of, _Z * _Z
    middle = (rate + square / (2 * of)) / (1 + square / of)
    half = _Z * math.sqrt(rate * (1 - rate) / of + square / (4 * of * of)) / (1 + square / of)
    return Share(
        n=n,
        of=of,
        rate=round(rate, 4),
        lower=round(max(0.0, middle - half), 4),
        upper=round(min(1.0, middle + half), 4),
    )

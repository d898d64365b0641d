"""Numbers of backups, from what the storage says alone: a restart changes none. They
are reckoned from what was read, and nobody is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from phoenix_orch.observability.backups import Figures
from phoenix_orch.recovery.catalog import Backup, View
from phoenix_orch.recovery.claims import Outcome, Run
from phoenix_orch.recovery.freshness import Copy, missed
from phoenix_orch.recovery.retention import Decision, tier

STATUS = {Outcome.PUBLISHED: 1, Outcome.FAILED: 0, Outcome.ABANDONED: 0, Outcome.RUNNING: -1}


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a component besides its view."""

    every: timedelta
    """How often it is backed up."""
    now: datetime
    decisions: Sequence[Decision]
    """Of retention."""
    orphans: int
    """Objects that belong to no backup and are old enough to be swept."""
    last: Run | None
    """The run that began last; None: there was none, or what is said of it does not hold."""


def figures(view: View, seen: Seen) -> Figures:
    good, newest = view.newest_good, next(iter(view.live), None)
    manifest = good.manifest if good is not None else None
    shrink = min((drop.value / drop.median for drop in newest.manifest.drops), default=1.0) if newest else 1.0
    verified: dict[int, float] = {}
    for look in (look for backup in view.backups for look in backup.verifications if look.passed):
        verified[look.level] = max(verified.get(look.level, 0.0), look.at.timestamp())
    return Figures(
        component=view.scope.component,
        last_success=manifest.time.published.timestamp() if manifest else None,
        consistency_point=manifest.time.consistency_point.timestamp() if manifest else None,
        rpo_seconds=manifest.time.rpo_seconds if manifest else None,
        stages=_stages(good),
        raw_bytes=manifest.stream.raw_bytes if manifest else None,
        stored_bytes=manifest.stream.stored_bytes if manifest else None,
        keys=_keys(good),
        level=int(newest.level) if newest and newest.level is not None else None,
        shrink_ratio=shrink,
        retained=Counter(tier(one) for one in seen.decisions),
        faults=len(view.faults),
        generation=newest.manifest.generation if newest else None,
        verified=verified,
        missed=missed([_copy(one) for one in view.live], seen.every, seen.now),
        orphans=seen.orphans,
        deletions=deletions(view),
        last_attempt=STATUS[seen.last.outcome] if seen.last is not None else None,
    )


def deletions(view: View) -> int:
    """How many were ever removed: each backup says how many were published, itself with them."""
    published = max((one.manifest.number for one in view.backups), default=0)
    return max(0, published - len(view.backups))


def _stages(good: Backup | None) -> dict[str, float]:
    if good is None:
        return {}
    time = good.manifest.time
    return {
        "store": (time.finished - time.started).total_seconds(),
        "verify": (time.published - time.finished).total_seconds(),
    }


def _keys(good: Backup | None) -> int | None:
    keys = good.manifest.content.get("keys") if good is not None else None
    return keys if isinstance(keys, int) else None


def _copy(one: Backup) -> Copy:
    return Copy(one.id, one.at, one.manifest.time.consistency_point, one.good)

"""Remove what retention does not keep, and what runs that died have left.

    tombstone → a day of grace → manifest → what lies elsewhere → data → what was learnt of it

A backup with a tombstone is still whole: a pin within the day saves it. After each step a crash leaves less,
and what is left is found the next time. The tombstone itself stays while a manifest follows the one that
went: it says that this one was meant to go, and what of it lies elsewhere. Data that is still there says that
this was not let go of yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from phoenix_orch.kernel.errors import Conflict, NotFound
from phoenix_orch.recovery.catalog import Backup, View
from phoenix_orch.recovery.layout import MANIFEST, Scope, parse, parse_record
from phoenix_orch.recovery.manifest import Tombstone, encoded
from phoenix_orch.recovery.objects import ObjectStore, Upkeep
from phoenix_orch.recovery.outside import Outside, outside_of
from phoenix_orch.recovery.retention import GRACE, Candidate, Decision, Limits, Policy, retain, stopped
from phoenix_orch.recovery.signing import Signer

BEFORE_RESTORE = timedelta(days=7)
"""What a restore wrote over stays so long, whatever the rules take."""
ORPHANS = timedelta(hours=24)
UNFINISHED = timedelta(hours=6)
CLAIMS = timedelta(days=2)
MOST_SWEPT = 500
"""Objects of one sweep."""


class Step(StrEnum):
    """Told after each."""

    MARKED = "tombstone made"
    MANIFEST = "manifest removed"
    OUTSIDE = "let go of elsewhere"
    DATA = "data removed"
    RECORDS = "records removed"
    SWEPT = "left-over removed"


@dataclass(frozen=True, slots=True)
class Plan:
    """What retention says of one scope."""

    scope: Scope
    decisions: tuple[Decision, ...]
    stop: str = ""
    """Why nothing is removed now."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one run did, or would do."""

    marked: tuple[str, ...] = ()
    """Ids that got a tombstone."""
    removed: tuple[str, ...] = ()
    """Ids whose grace was over."""
    swept: tuple[str, ...] = ()
    """Keys that belonged to no backup."""
    bytes: int = 0
    """Of the data that was removed or swept."""
    waiting: tuple[str, ...] = ()
    """Ids of what may go, and lies in a cluster that is not reached from here."""


def candidate(backup: Backup, now: datetime) -> Candidate:
    pin, why = backup.pin, ""
    if backup.before_restore and now - backup.at < BEFORE_RESTORE:
        why = f"a restore wrote over it less than {BEFORE_RESTORE.days} days ago"
    return Candidate(
        id=backup.id,
        at=backup.at,
        good=backup.good and not backup.before_restore,  # it stands for no hour in place of a real one
        pinned=(pin.reason or f"by {pin.by}") if pin is not None else why,
        locked_until=backup.manifest.lock_until,
    )


def plan(view: View, policy: Policy, limits: Limits, now: datetime, storage_now: datetime) -> Plan:
    """Pure: everything that it goes by is given. `storage_now`: by the storage's clock."""
    decisions = retain(policy, [candidate(one, now) for one in view.live], now)
    newest = view.live[0] if view.live else None
    unsure = ""
    if newest is not None and newest.shrunk:
        unsure = (
            f"the newest backup, {newest.id}, is much smaller than those before; "
            f"`phoenix backup acknowledge {newest.id}` says that this is right"
        )
    why = stopped(decisions, limits, now, storage_now, unsure=unsure, faults=len(view.faults))
    return Plan(view.scope, tuple(decisions), why)


class Pruner:
    """Removes. Needs the right to delete, which who takes backups needs not have."""

    def __init__(
        self,
        store: ObjectStore,
        signer: Signer,
        now: Callable[[], datetime],
        by: str,
        *,
        told: Callable[[Step], None] = lambda _: None,
        outside: Outside | None = None,
    ) -> None:
        """`outside`: the place where a part of some backups lies; None: it is not reached from here."""
        self._outside = outside
        self._store = store
        self._signer = signer
        self._now = now
        self._by = by
        self._told = told

    def run(
        self, view: View, planned: Plan, *, dry_run: bool = False, upkeep: Upkeep | None = None
    ) -> Pruned:
        """Nothing at all where the plan says stop."""
        if planned.stop:
            return Pruned()
        marked = self._mark(view, planned, dry_run=dry_run)
        removed, waiting, size = self._collect(view, dry_run=dry_run)
        swept = [*self._sweep(view, dry_run=dry_run), *self._sweep_outside(view, dry_run=dry_run)]
        if upkeep is not None:
            swept += self._abort(view.scope, upkeep, dry_run=dry_run)
        return Pruned(
            tuple(marked),
            tuple(removed),
            tuple(key for key, _ in swept),
            size + sum(bytes_ for _, bytes_ in swept),
            tuple(waiting),
        )

    def left_over(self, view: View) -> int:
        """How many objects belong to no backup, and are old enough to belong to no run."""
        return sum(1 for _ in self._orphans(view))

    # -- backups -----------------------------------------------------------------------------------

    def _mark(self, view: View, planned: Plan, *, dry_run: bool) -> Iterator[str]:
        by_id = {one.id: one for one in view.live}
        for decision in planned.decisions:
            if decision.keep:
                continue
            if not dry_run:
                self._tombstone(view.scope, by_id[decision.id], "; ".join(decision.reasons))
            yield decision.id

    def _tombstone(self, scope: Scope, backup: Backup, reason: str) -> None:
        stone = Tombstone(
            backup=backup.id,
            manifest=backup.sha256,
            key=backup.manifest.place.manifest,
            data=backup.manifest.stream.key,
            at=self._now(),
            by=self._by,
            reason=reason,
            outside=outside_of(backup.manifest),
        )
        try:
            self._store.create(scope.record(backup.id, "tombstone"), encoded(stone, self._signer))
        except Conflict:
            return  # another run was quicker, and says the same
        self._told(Step.MARKED)

    def _collect(self, view: View, *, dry_run: bool) -> tuple[list[str], list[str], int]:
        """Backups whose grace is over. The last good one never goes, whatever was said of it."""
        due = self._now() - GRACE
        removed, waiting, size = list[str](), list[str](), 0
        for backup in view.backups:
            stone = backup.tombstone
            if stone is None or stone.at > due or backup.pin is not None:
                continue
            locked = backup.manifest.lock_until
            if (locked is not None and locked > self._now()) or (backup.good and view.newest_good is None):
                continue
            if stone.outside and self._outside is None:
                waiting.append(backup.id)
                continue
            if self._there(view.scope.record(backup.id, "pin")):
                continue  # somebody has pinned it since the catalog was read
            removed.append(backup.id)
            size += backup.manifest.stream.stored_bytes
            if not dry_run:
                self._store.delete(stone.key)
                self._told(Step.MANIFEST)
                self._end(view, stone, removed)
        if not dry_run:
            self._finish(view, removed)
        return removed, waiting, size

    def _end(self, view: View, stone: Tombstone, removed: Sequence[str]) -> None:
        """All of it but its manifest, which is gone."""
        if stone.outside and self._outside is not None and not _shared(view, stone, removed):
            self._outside.let_go(stone.outside)
            self._told(Step.OUTSIDE)
        self._store.delete(stone.data)
        self._told(Step.DATA)
        self._forget(view.scope, stone.backup)

    def _forget(self, scope: Scope, backup: str) -> None:
        """What was learnt of it, but for the tombstone."""
        own = scope.record(backup, "tombstone")
        for stat in list(self._store.list(f"{scope.records}{backup}/")):
            if stat.key != own:
                self._store.delete(stat.key)
        self._told(Step.RECORDS)

    def _finish(self, view: View, removed: Sequence[str]) -> None:
        """Removals that were interrupted; and tombstones that no manifest needs any more."""
        needed = {one.manifest.previous.id for one in view.backups if one.manifest.previous is not None}
        for stone in view.tombstones:
            if stone.outside and self._there(stone.data):
                if self._outside is None:
                    continue  # what is in the cluster is known by it alone
                self._end(view, stone, removed)
            else:
                self._store.delete(stone.data)
                self._forget(view.scope, stone.backup)
            if stone.backup not in needed:
                self._store.delete(view.scope.record(stone.backup, "tombstone"))

    def _there(self, key: str) -> bool:
        try:
            self._store.stat(key)
        except NotFound:
            return False
        return True

    # -- left-overs --------------------------------------------------------------------------------

    def _sweep(self, view: View, *, dry_run: bool) -> Iterator[tuple[str, int]]:
        """Objects that belong to no backup and are old enough to belong to no run. A manifest that cannot be
        read still guards its data."""
        for swept, (key, size) in enumerate(list(self._orphans(view))):
            if swept >= MOST_SWEPT:
                return
            if not dry_run:
                self._store.delete(key)
                self._told(Step.SWEPT)
            yield key, size

    def _orphans(self, view: View) -> Iterator[tuple[str, int]]:
        scope, now = view.scope, self._store.now()
        wanted = {one.manifest.stream.key for one in view.backups}
        known = {one.manifest.place.directory for one in view.backups}
        objects = [
            (stat, found)
            for stat in self._store.list(scope.backups)
            if (found := parse(stat.key)) is not None and found.place.scope == scope
        ]
        unread = {
            found.place.directory
            for stat, found in objects
            if stat.key.endswith(f"/{MANIFEST}") and found.place.directory not in known
        }
        for stat, found in objects:
            if found.attempt is None or stat.key in wanted or found.place.directory in unread:
                continue
            if now - stat.modified > ORPHANS:
                yield stat.key, stat.size
        ids = {one.id for one in view.backups} | {one.backup for one in view.tombstones}
        followed = {one.manifest.previous.id for one in view.backups if one.manifest.previous is not None}
        ids |= {one.backup for one in view.losses if one.backup in followed}
        ids |= {found.place.id for _, found in objects}
        for stat in self._store.list(scope.records):
            record = parse_record(stat.key)
            if record is None or record.scope != scope or record.backup in ids:
                continue
            if now - stat.modified > ORPHANS:
                yield stat.key, stat.size
        running = scope.claim("running")
        for stat in self._store.list(scope.claims):
            deeper = "/" in stat.key.removeprefix(scope.claims)
            if not deeper and stat.key != running and now - stat.modified > CLAIMS:
                yield stat.key, stat.size

    def _sweep_outside(self, view: View, *, dry_run: bool) -> Iterator[tuple[str, int]]:
        if self._outside is None:
            return
        for left in self._outside.left_over(view):
            if not dry_run:
                self._outside.sweep(left)
                self._told(Step.SWEPT)
            yield left, 0

    def _abort(self, scope: Scope, upkeep: Upkeep, *, dry_run: bool) -> Iterator[tuple[str, int]]:
        now = self._store.now()
        for left in list(upkeep.unfinished()):
            if not left.key.startswith(scope.backups) or now - left.begun <= UNFINISHED:
                continue
            if not dry_run:
                upkeep.abort(left)
                self._told(Step.SWEPT)
            yield left.key, 0


def _shared(view: View, stone: Tombstone, removed: Sequence[str]) -> bool:
    """Whether another backup stands for the same, as one does that was sealed anew for other recipients."""
    others = [one for one in view.backups if one.id != stone.backup and one.id not in removed]
    return any(outside_of(one.manifest).get("handle") == stone.outside.get("handle") for one in others)

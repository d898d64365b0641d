"""Each slot of a schedule is backed up once: who has taken it, and what became of the run before.

    claims/<scope>/<slot>.json    made with the first attempt; the backup's id stands in it
    claims/<scope>/running.json   the run of the highest lease generation, and how it ended

All attempts at a slot publish the same manifest key, which can be made only once. So a run that was thought
dead and comes back cannot publish a slot twice; each attempt stores its data under a key of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import AwareDatetime

from phoenix_orch.kernel.errors import Conflict, NotFound
from phoenix_orch.recovery.layout import Place, Scope, stamp
from phoenix_orch.recovery.manifest import Part, decoded, encoded
from phoenix_orch.recovery.objects import ObjectStore
from phoenix_orch.recovery.signing import Signer, Tampered, Trust

RUNNING = "running"
MOST_ATTEMPTS = 1000


class Outcome(StrEnum):
    RUNNING = "running"
    PUBLISHED = "published"
    FAILED = "failed"
    ABANDONED = "abandoned"
    """Its process died, or lost its lease."""


class Claim(Part):
    """A slot that was taken."""

    backup: str
    """Id that its backup has, whichever attempt makes it."""
    slot: AwareDatetime
    attempt: int = 0
    """Of the last one, from 0."""
    generation: int
    """Of the lease of the last one."""


class Run(Part):
    """The last run of a scope."""

    backup: str
    generation: int
    attempt: int
    started: AwareDatetime
    host: str
    outcome: Outcome = Outcome.RUNNING
    ended: AwareDatetime | None = None
    detail: str = ""
    abandoned: int = 0
    """How many runs were found dead so far."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a run works on."""

    place: Place
    attempt: int


class Claims:
    """Of one scope, under a lease."""

    def __init__(self, store: ObjectStore, scope: Scope, signer: Signer, trust: Trust) -> None:
        self._store = store
        self._scope = scope
        self._signer = signer
        self._trust = trust

    def take(self, slot: datetime, generation: int, new_id: Callable[[], str]) -> Taken | None:
        """The slot, or None when its backup is published. Raises Conflict when another run was quicker."""
        slot = slot.replace(microsecond=0)
        key = self._scope.claim(stamp(slot))
        first = Claim(backup=new_id(), slot=slot, generation=generation)
        try:
            self._store.create(key, encoded(first, self._signer))
        except Conflict:
            return self._again(key, slot, generation)
        return Taken(Place(self._scope, slot, first.backup), 0)

    def _again(self, key: str, slot: datetime, generation: int) -> Taken | None:
        raw, stat = self._store.get(key)
        claim = decoded(raw, Claim, self._trust, key)
        place = Place(self._scope, slot, claim.backup)
        if claim.generation > generation:
            raise Conflict(f"a later run has taken slot {stamp(slot)}")
        if _there(self._store, place.manifest):
            return None
        attempt = claim.attempt + 1
        again = claim.model_copy(update={"attempt": attempt, "generation": generation})
        self._store.replace(key, encoded(again, self._signer), stat.etag)
        return Taken(place, attempt)

    def last(self) -> Run | None:
        found = self._running()
        return None if found is None else found[0]

    def _running(self) -> tuple[Run | None, str] | None:
        """None for a run that is torn, or of a key that is not trusted: the lease keeps runs apart, this only
        tells of them, and a component that can never be backed up again is worse than one untold end."""
        key = self._scope.claim(RUNNING)
        try:
            raw, stat = self._store.get(key)
        except NotFound:
            return None
        try:
            return decoded(raw, Run, self._trust, key), stat.etag
        except Tampered:
            return None, stat.etag

    def begin(self, run: Run) -> Run | None:
        """Say that a run has begun; the one before, when that never said how it ended.

        Raises Conflict when a later generation runs.
        """
        found = self._running()
        if found is None:
            self._store.create(self._scope.claim(RUNNING), encoded(run, self._signer))
            return None
        before, etag = found
        if before is None:
            self._store.replace(self._scope.claim(RUNNING), encoded(run, self._signer), etag)
            return None
        if before.generation > run.generation:
            raise Conflict(f"a later run of {self._scope.component} has begun")
        dead = before.outcome is Outcome.RUNNING and self._dead(before)
        count = before.abandoned + int(dead)
        self._store.replace(
            self._scope.claim(RUNNING),
            encoded(run.model_copy(update={"abandoned": count}), self._signer),
            etag,
        )
        if not dead:
            return None
        return before.model_copy(update={"outcome": Outcome.ABANDONED, "abandoned": count})

    def _dead(self, run: Run) -> bool:
        """It never said how it ended, and published nothing."""
        days = {f"{day:%Y/%m/%d}" for day in (run.started, run.started - timedelta(days=1))}  # of its slot
        return not any(
            stat.key.endswith(f"-{run.backup}/manifest.json")
            for day in sorted(days)
            for stat in self._store.list(f"{self._scope.backups}{day}/")
        )

    def end(self, backup: str, outcome: Outcome, at: datetime, detail: str = "") -> None:
        """Say how the run of `backup` ended; nothing when a later one has begun."""
        found = self._running()
        if found is None:
            return
        run, etag = found
        if run is None or run.backup != backup or run.outcome is not Outcome.RUNNING:
            return
        ended = run.model_copy(update={"outcome": outcome, "ended": at, "detail": detail[:500]})
        self._store.replace(self._scope.claim(RUNNING), encoded(ended, self._signer), etag)


def _there(store: ObjectStore, key: str) -> bool:
    try:
        store.stat(key)
    except NotFound:
        return False
    return True

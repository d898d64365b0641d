"""Take one backup and publish it: nothing is seen of it before its manifest is there, and all after.

    lease → slot → data stored → looked at → manifest (the commit point) → what was seen of it

A crash before the commit point leaves what nobody sees, for `prune` to sweep; one after it leaves a whole
backup that is looked at once more. The manifest is made only where there is none, and only while the lease
is held.
"""

from __future__ import annotations

import contextlib
import functools
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from importlib.metadata import version
from typing import Protocol

from phoenix_orch.kernel.errors import BadState, Conflict, NotFound, PhoenixError, Terminal
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.recovery.backup_source import BackupSource
from phoenix_orch.recovery.catalog import Catalog, View
from phoenix_orch.recovery.claims import Claims, Outcome, Run, Taken
from phoenix_orch.recovery.errors import Corrupted, Stopped
from phoenix_orch.recovery.keys import Recipient
from phoenix_orch.recovery.layout import Place, Scope
from phoenix_orch.recovery.manifest import (
    Level,
    Link,
    Manifest,
    Stream,
    Times,
    Trigger,
    TriggerKind,
    Verification,
    encoded,
)
from phoenix_orch.recovery.objects import ObjectStore
from phoenix_orch.recovery.prune import candidate
from phoenix_orch.recovery.retention import MOST_SKEW, Candidate, Policy, retain
from phoenix_orch.recovery.shrink import drops, measured
from phoenix_orch.recovery.signing import Signer, Trust, digest
from phoenix_orch.recovery.storing import Hearing, Spooling, Stored, stored
from phoenix_orch.recovery.verifying import Structural, Verifier, record_look


class Step(StrEnum):
    """How far a run has come; told before the next step begins."""

    LEASED = "lease held"
    CLAIMED = "slot taken"
    BEGUN = "run noted"
    STORING = "data half stored"
    RELEASED = "source let go of"
    STORED = "data stored"
    LOOKED = "data looked at"
    COMMITTED = "manifest made"
    RECORDED = "look recorded"
    ENDED = "run ended"


class Fence(Protocol):
    """A lease that is held. A later holder has a higher generation."""

    @property
    def generation(self) -> int: ...

    def check(self) -> None:
        """Raises Conflict when it is lost, or may be."""
        ...

    def outgrow(self, generation: int) -> None:
        """Have a higher generation than this. Raises Conflict when it is lost."""
        ...


Leases = Callable[[str], AbstractContextManager[Fence]]
"""Takes the lease of a key and keeps it while the body runs. Raises Conflict where another one has it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What all backups of one configuration have in common."""

    recipients: Sequence[Recipient]
    level: int = 1
    """Of zstd."""
    shrink: float = 0.3
    """Share that may be lost before a backup is no good one."""
    opener: Callable[[str], str] = lambda key: f"get {key}"
    """The shell command that writes an object to its standard output."""
    policy: Policy = field(default_factory=Policy)
    """Of retention: what is told of each."""
    spooling: Spooling | None = None
    """For sources that must not wait for the storage."""
    lock: Callable[[str, datetime], datetime | None] = lambda _key, _now: None
    """Keeps an object from being removed; until when."""
    still: Callable[[], object] = lambda: None
    """Raises where the storage is not the one any more that the run has begun in."""


@dataclass(frozen=True, slots=True)
class Published:
    """A backup that is there."""

    manifest: Manifest
    sha256: str
    look: Verification
    abandoned: Run | None = None
    """The run before, when that was found dead."""


@dataclass(frozen=True, slots=True)
class Told:
    """Who hears how far a run is, and may stop it."""

    step: Callable[[Step], None] = lambda _: None
    storing: Callable[[int], None] = lambda _: None
    """Bytes of the content that were read."""
    looking: Callable[[int], None] = lambda _: None
    warn: Callable[[str], None] = lambda _: None
    """What goes another way than it should, and goes."""
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class _Run:
    """One run, once it has its slot."""

    scope: Scope
    source: BackupSource
    trigger: Trigger
    slot: datetime | None
    started: datetime
    taken: Taken
    fence: Fence
    structural: Structural | None
    told: Told


class Publisher:
    """Takes backups of one storage."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        catalog: Catalog,
        leases: Leases,
        signer: Signer,
        trust: Trust,
        verifier: Verifier,
        settings: Settings,
        now: Callable[[], datetime],
    ) -> None:
        """Raises Terminal without two recipients."""
        if len(settings.recipients) < 2:
            raise Terminal(
                "a backup needs two recipients at least, one of them offline",
                remedy="`phoenix keys init` makes them",
            )
        self._store = store
        self._catalog = catalog
        self._leases = leases
        self._signer = signer
        self._trust = trust
        self._verifier = verifier
        self._settings = settings
        self._now = now

    def publish(
        self,
        cluster: str,
        namespace: str,
        source: BackupSource,
        trigger: Trigger,
        *,
        slot: datetime | None = None,
        structural: Structural | None = None,
        told: Told | None = None,
    ) -> Published | None:
        """One backup; None when that of the slot is there already.

        Raises Conflict where another run is on it, Corrupted when what was stored is not what was read,
        and what source and store raise: then nothing was published.
        """
        told = told or Told()
        slot = slot.replace(microsecond=0) if slot is not None else None
        scope = Scope(cluster, namespace, source.component)
        self._right_time()
        with self._leases(scope.lock) as fence:
            told.step(Step.LEASED)
            claims = Claims(self._store, scope, self._signer, self._trust)
            if (last := claims.last()) is not None:
                fence.outgrow(last.generation)
            started = self._now()
            taken = self._taken(claims, scope, slot, started, fence)
            if taken is None:
                return None
            told.step(Step.CLAIMED)
            run = _Run(scope, source, trigger, slot, started, taken, fence, structural, told)
            abandoned = claims.begin(
                Run(
                    backup=taken.place.id,
                    generation=fence.generation,
                    attempt=taken.attempt,
                    started=started,
                    host=platform.node(),
                )
            )
            told.step(Step.BEGUN)
            with _ended(claims, taken, self._now):
                manifest, sha256, look = self._run(run)
            with contextlib.suppress(PhoenixError):  # it is published; the next run finds that
                claims.end(taken.place.id, Outcome.PUBLISHED, self._now())
            told.step(Step.ENDED)
            return Published(manifest, sha256, look, abandoned)

    def _right_time(self) -> None:
        skew = abs(self._now() - self._store.now())
        if skew > MOST_SKEW:
            raise BadState(
                f"the clocks of this machine and the storage are {skew.total_seconds():.0f} s apart",
                remedy="set the clock of this machine: backups are told apart by their time",
            )

    def _taken(
        self, claims: Claims, scope: Scope, slot: datetime | None, started: datetime, fence: Fence
    ) -> Taken | None:
        if slot is not None:
            return claims.take(slot, fence.generation, lambda: sortable_id(started))
        return Taken(Place(scope, started.replace(microsecond=0), sortable_id(started)), 0)

    def _run(self, run: _Run) -> tuple[Manifest, str, Verification]:
        view = self._catalog.read(run.scope)
        data = self._stored(run, view)
        run.told.step(Step.STORED)
        manifest = self._manifest(run, data, view)
        look = self._looked(manifest, run)
        run.told.step(Step.LOOKED)
        run.fence.check()
        self._settings.still()
        # before the manifest, which says it: the lock may end later than that, and not earlier
        until = self._settings.lock(manifest.stream.key, self._now())
        manifest = _published(manifest.model_copy(update={"lock_until": until}), self._now())
        raw = encoded(manifest, self._signer)
        self._commit(manifest.place.manifest, raw)
        run.told.step(Step.COMMITTED)
        with contextlib.suppress(PhoenixError):  # it is published, and its data is locked
            self._settings.lock(manifest.place.manifest, self._now())
        look = look.model_copy(update={"manifest": digest(raw)})
        with contextlib.suppress(PhoenixError):  # it is published; the next check looks again
            record_look(self._store, run.scope, look, self._signer)
        run.told.step(Step.RECORDED)
        return manifest, digest(raw), look

    def _stored(self, run: _Run, view: View) -> Stored:
        first = True

        def storing(seen: int) -> None:
            nonlocal first
            if first:
                first = False
                run.told.step(Step.STORING)
            run.told.storing(seen)

        return stored(
            self._store,
            run.source,
            functools.partial(run.taken.place.data, run.taken.attempt),
            self._settings.recipients,
            Hearing(storing, lambda: run.told.step(Step.RELEASED), run.told.warn, run.told.stop),
            level=self._settings.level,
            before=max((one.manifest.stream.stored_bytes for one in view.live[:1]), default=0),
            spooling=self._settings.spooling,
        )

    def _stream(self, data: Stored) -> Stream:
        sealed = data.sealed
        return Stream(
            key=data.key,
            name=data.name,
            raw_bytes=sealed.raw_bytes,
            raw_sha256=sealed.raw_sha256,
            stored_bytes=sealed.stored_bytes,
            stored_sha256=sealed.stored_sha256,
            codec="zstd",
            level=self._settings.level,
            content_checksum=True,
            encryption="age",
            recipients=tuple(one.text for one in self._settings.recipients),
            header_sha256=sealed.header_sha256,
            etag=data.stat.etag,
            parts=data.stat.parts,
            version_id=data.stat.version,
        )

    def _manifest(self, run: _Run, data: Stored, view: View) -> Manifest:
        """With what is known before it is published."""
        stream, facts, finished = self._stream(data), data.facts, self._now()
        before = max(view.backups, key=lambda one: one.manifest.time.published, default=None)
        trail = [
            measured(one.manifest.stream.raw_bytes, one.manifest.content, one.manifest.measures)
            for one in view.live
            if one.good and not one.before_restore
        ]
        now = measured(stream.raw_bytes, facts.content, facts.measures)
        return Manifest(
            id=run.taken.place.id,
            cluster=run.scope.cluster,
            namespace=run.scope.namespace,
            component=run.scope.component,
            kind=run.scope.kind,
            trigger=run.trigger,
            phoenix=version("phoenix-orchestrator"),
            host=platform.node(),
            generation=run.fence.generation,
            number=1 + max([len(view.backups), *(one.manifest.number for one in view.backups)]),
            time=Times(
                slot=run.slot,
                started=run.started,
                consistency_point=facts.consistency_point,
                finished=finished,
                published=finished,
                rpo_seconds=0.0,
            ),
            previous=Link(id=before.id, sha256=before.sha256) if before is not None else None,
            stream=stream,
            source=facts.source,
            engine=facts.engine,
            replication=facts.replication,
            content=facts.content,
            measures=facts.measures,
            hooks=facts.hooks,
            drops=drops(now, trail, self._settings.shrink),
            retention=self._rules(run, view),
            open_with=f"{self._settings.opener(stream.key)} | age -d -i IDENTITY | zstd -d > {stream.name}",
        )

    def _rules(self, run: _Run, view: View) -> tuple[str, ...]:
        """Which rules of retention take it, if it holds; none what a restore is to write over."""
        if run.trigger.kind is TriggerKind.PRE_RESTORE:
            return ()
        place, now = run.taken.place, self._now()
        known = [candidate(one, now) for one in view.live]
        decided = retain(self._settings.policy, [*known, Candidate(place.id, place.moment)], now)
        return next(one.reasons for one in decided if one.id == place.id)

    def _looked(self, manifest: Manifest, run: _Run) -> Verification:
        """Read back what was stored. Raises Corrupted where that is not what was read from the source."""
        highest = self._verifier.highest
        structural = run.structural if highest >= Level.OPENED else None
        look = functools.partial(
            self._verifier.look, manifest, "", progress=run.told.looking, stop=run.told.stop
        )
        seen: Verification | None = None
        if structural is not None:
            try:
                seen = look(structural.level, structural=structural)
            except Stopped:
                raise
            except BadState:  # there is no tool for it here
                seen = None
        return _holding(seen or look(highest))

    def _commit(self, key: str, raw: bytes) -> None:
        """The commit point. An answer that was lost is looked up: what is there is ours or another one's."""
        try:
            self._store.create(key, raw)
        except PhoenixError as error:
            try:
                there, _ = self._store.get(key)
            except NotFound:
                raise error from None
            if there != raw:
                raise Conflict(f"another run has published {key} first") from None


def _holding(look: Verification) -> Verification:
    if look.passed:
        return look
    raise Corrupted(
        f"what was stored does not hold: {look.detail}; it is not published",
        remedy="run it again; if that happens again, look after the storage",
    )


def _published(manifest: Manifest, now: datetime) -> Manifest:
    gap = (now - manifest.time.consistency_point).total_seconds()
    time = manifest.time.model_copy(update={"published": now, "rpo_seconds": round(gap, 3)})
    return manifest.model_copy(update={"time": time})


@contextlib.contextmanager
def _ended(claims: Claims, taken: Taken, now: Callable[[], datetime]) -> Iterator[None]:
    """A run that fails says so, as far as that can be."""
    try:
        yield
    except BaseException as error:
        text = error.message if isinstance(error, PhoenixError) else type(error).__name__
        with contextlib.suppress(PhoenixError):
            claims.end(taken.place.id, Outcome.FAILED, now(), text)
        raise

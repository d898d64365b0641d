"""Seal a stored backup anew, for the recipients of now: after a key was lost or stolen, or one has joined.

    lease → data sealed anew → looked at → manifest, which names its parent → records → old one marked

The copy has an id of its own and the moment of the old one, which stays whole until retention's day of grace
after its tombstone is over. A crash leaves the old one, or both; the same again goes on from there, and makes
no second copy.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from importlib.metadata import version

from phoenix_orch.kernel.errors import BadState, Conflict, NotFound
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.recovery.catalog import COUNTS, Backup, Catalog
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.handover import Handover, OtherSide
from phoenix_orch.recovery.keys import Identity, Recipient
from phoenix_orch.recovery.layout import Place
from phoenix_orch.recovery.manifest import Link, Manifest, Tombstone, Trigger, TriggerKind, encoded
from phoenix_orch.recovery.objects import ObjectStore
from phoenix_orch.recovery.outside import outside_of
from phoenix_orch.recovery.pipeline import Sealed, seal, unseal
from phoenix_orch.recovery.publish import Fence, Leases
from phoenix_orch.recovery.signing import Signer, digest
from phoenix_orch.recovery.verifying import Verifier, expected, record_look


class Step(StrEnum):
    """Told after each."""

    LEASED = "lease held"
    STORED = "data sealed anew"
    LOOKED = "data looked at"
    COMMITTED = "manifest made"
    RECORDED = "look recorded"
    CARRIED = "pin and acknowledgement carried over"
    MARKED = "old one marked"


@dataclass(frozen=True, slots=True)
class Told:
    """Who hears how far it is."""

    step: Callable[[Step], None] = lambda _: None
    sealing: Callable[[int], None] = lambda _: None
    """Bytes of the content so far."""
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Rekeyer:
    """Works on one storage. `identities`: open the old ones. `verifier`: opens what is sealed anew."""

    store: ObjectStore
    catalog: Catalog
    leases: Leases
    signer: Signer
    verifier: Verifier
    identities: Sequence[Identity]
    recipients: Sequence[Recipient]
    opener: Callable[[str], str]
    now: Callable[[], datetime]
    by: str

    def rekey(self, old: Backup, reason: str, told: Told | None = None) -> Manifest:
        """The manifest of the new one. Raises Conflict where a backup of the component is being taken,
        WrongKey, Corrupted, and what the store raises: then the old one is as it was."""
        told = told or Told()
        scope = old.manifest.scope
        with self.leases(scope.lock) as fence:
            told.step(Step.LEASED)
            view = self.catalog.read(scope)
            old = next((one for one in view.live if one.id == old.id), old)
            if old.tombstone is not None:
                raise BadState(f"{old.id} is to be removed", remedy="choose one that stays")
            new = _child(view.live, old, self.recipients)
            if new is None:
                before = max(view.backups, key=lambda one: one.manifest.time.published)
                self._copied(old, Link(id=before.id, sha256=before.sha256), reason, fence, told)
                view = self.catalog.read(scope)
                new = _child(view.live, old, self.recipients)
                if new is None:
                    raise Corrupted(
                        f"what was sealed anew of {old.id} is not in the storage as it was written",
                        remedy="look after the storage; the old one is as it was",
                    )
            elif new.level is None or new.level < COUNTS:
                self._look(new.manifest, new.sha256)  # it was cut off before that was recorded
            self._carry(old, new)
            told.step(Step.CARRIED)
            fence.check()
            self._mark(old, new)
            told.step(Step.MARKED)
            return new.manifest

    def _copied(self, old: Backup, previous: Link, reason: str, fence: Fence, told: Told) -> None:
        manifest = old.manifest
        place = Place(manifest.scope, manifest.moment, sortable_id(self.now()))
        key = place.data(0, manifest.stream.name)
        sealed, stat = self._sealed(manifest, key, told), self.store.stat(key)
        told.step(Step.STORED)
        moment = self.now()
        new = manifest.model_copy(
            update={
                "id": place.id,
                "trigger": Trigger(kind=TriggerKind.REKEY, actor=self.by, reason=reason),
                "phoenix": version("phoenix-orchestrator"),
                "host": platform.node(),
                "generation": fence.generation,
                "time": manifest.time.model_copy(update={"finished": moment, "published": moment}),
                "previous": previous,
                "parent": Link(id=old.id, sha256=old.sha256),
                "stream": manifest.stream.model_copy(
                    update={
                        "key": key,
                        "stored_bytes": sealed.stored_bytes,
                        "stored_sha256": sealed.stored_sha256,
                        "recipients": tuple(one.text for one in self.recipients),
                        "content_checksum": True,
                        "header_sha256": sealed.header_sha256,
                        "etag": stat.etag,
                        "parts": stat.parts,
                        "version_id": stat.version,
                    }
                ),
                "open_with": f"{self.opener(key)} | age -d -i IDENTITY | zstd -d > {manifest.stream.name}",
                "lock_until": None,
            }
        )
        look = self.verifier.look(new, "", self.verifier.highest, stop=told.stop)
        if not look.passed or look.level < COUNTS:
            raise Corrupted(
                f"what was sealed anew does not hold, or cannot be opened here: {look.detail}",
                remedy="name a recipient's private key as backup.identityFile; nothing was changed",
            )
        told.step(Step.LOOKED)
        fence.check()
        raw = encoded(new, self.signer)
        self.store.create(place.manifest, raw)
        told.step(Step.COMMITTED)
        record_look(
            self.store,
            new.scope,
            look.model_copy(update={"manifest": digest(raw)}),
            self.signer,
        )
        told.step(Step.RECORDED)

    def _sealed(self, manifest: Manifest, key: str, told: Told) -> Sealed:
        """Opened and sealed at once, in constant memory: nothing of the content touches a disk."""
        between = Handover()
        estimate = manifest.stream.stored_bytes

        def opening() -> None:
            with self.store.reader(manifest.stream.key) as reader:
                unseal(reader, between, self.identities, expected(manifest), stop=told.stop)
            between.end()  # only here: what did not prove whole never looks like an end

        with self.store.writer(key, estimate=estimate) as sink, OtherSide(between, opening) as opened:
            sealed = seal(
                between,
                sink,
                self.recipients,
                level=manifest.stream.level,
                progress=told.sealing,
                stop=told.stop,
            )
            opened.result()
        return sealed

    def _look(self, manifest: Manifest, sha256: str) -> None:
        look = self.verifier.look(manifest, sha256, self.verifier.highest)
        record_look(self.store, manifest.scope, look, self.signer)
        if not look.passed or look.level < COUNTS:
            raise Corrupted(f"{manifest.id} does not hold: {look.detail}", remedy="look after the storage")

    def _carry(self, old: Backup, new: Backup) -> None:
        """What people said of the old one holds for the new one."""
        scope = old.manifest.scope
        for kind, said in (("pin", old.pin), ("acknowledged", old.acknowledged)):
            if said is not None:
                record = said.model_copy(update={"backup": new.id})
                with contextlib.suppress(Conflict):
                    self.store.create(scope.record(new.id, kind), encoded(record, self.signer))

    def _mark(self, old: Backup, new: Backup) -> None:
        """The pin goes first: a backup that is pinned is not removed, whatever its tombstone says."""
        scope = old.manifest.scope
        with contextlib.suppress(NotFound):
            self.store.delete(scope.record(old.id, "pin"))
        stone = Tombstone(
            backup=old.id,
            manifest=old.sha256,
            key=old.manifest.place.manifest,
            data=old.manifest.stream.key,
            at=self.now(),
            by=self.by,
            reason=f"sealed anew as {new.id}",
            outside=outside_of(old.manifest),
        )
        with contextlib.suppress(Conflict):
            self.store.create(scope.record(old.id, "tombstone"), encoded(stone, self.signer))


def due(backups: Sequence[Backup], recipients: Sequence[Recipient]) -> list[Backup]:
    """Those that are sealed for others than `recipients`, oldest first. Pure."""
    wanted = {one.text for one in recipients}
    found = [
        one for one in backups if one.tombstone is None and set(one.manifest.stream.recipients) != wanted
    ]
    return sorted(found, key=lambda one: (one.at, one.id))


def _child(backups: Sequence[Backup], old: Backup, recipients: Sequence[Recipient]) -> Backup | None:
    """What an earlier run has made of it, for the same recipients."""
    link, wanted = Link(id=old.id, sha256=old.sha256), {one.text for one in recipients}
    return next(
        (
            one
            for one in backups
            if one.manifest.parent == link and one.present and set(one.manifest.stream.recipients) == wanted
        ),
        None,
    )

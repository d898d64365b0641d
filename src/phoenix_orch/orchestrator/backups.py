"""Backups of one Phoenix, put together from its configuration. They need no API and no running Phoenix."""

from __future__ import annotations

import contextlib
import io
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote as quoted

import structlog

from phoenix_orch.kernel.errors import BadState, Invalid, NotFound, Retryable
from phoenix_orch.orchestrator.backed_up_files import config_files
from phoenix_orch.orchestrator.backup_figures import Seen
from phoenix_orch.orchestrator.backup_home import HERE, Home, Volumes
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery import keys
from phoenix_orch.recovery.backup_source import BackupSource
from phoenix_orch.recovery.catalog import Backup, Catalog, View, all_backups
from phoenix_orch.recovery.claims import Claims
from phoenix_orch.recovery.config_verify import ConfigStructure
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.files_examine import FilesStructure
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.keys import Identity, Recipient
from phoenix_orch.recovery.layout import Scope
from phoenix_orch.recovery.lease import leases
from phoenix_orch.recovery.manifest import (
    Acknowledgement,
    Level,
    Link,
    Loss,
    Pin,
    Trigger,
    Verification,
    encoded,
)
from phoenix_orch.recovery.object_store import BucketStore
from phoenix_orch.recovery.objects import Reader, Writer
from phoenix_orch.recovery.pipeline import unseal
from phoenix_orch.recovery.prune import Plan, Pruned, Pruner, candidate, plan
from phoenix_orch.recovery.publish import Published, Publisher, Settings, Told
from phoenix_orch.recovery.rekey import Rekeyer
from phoenix_orch.recovery.retention import retain
from phoenix_orch.recovery.selecting import LATEST, select
from phoenix_orch.recovery.signing import Signer, Trust, signing_key
from phoenix_orch.recovery.sources import copied, files_configured
from phoenix_orch.recovery.sources.config import ConfigSource
from phoenix_orch.recovery.sources.config_shared import SharedConfigSource
from phoenix_orch.recovery.sources.copied import CopyOrder
from phoenix_orch.recovery.sources.redis_configured import configured
from phoenix_orch.recovery.sources.snapshot_plan import read_back
from phoenix_orch.recovery.spec import BackupSpec
from phoenix_orch.recovery.storage import opened
from phoenix_orch.recovery.storage_mark import Marks
from phoenix_orch.recovery.storing import Spooling
from phoenix_orch.recovery.verifying import Structural, Verifier, expected, record_look

ONLINE_KEY = "online.key"
Source = Callable[[], BackupSource]

_log = structlog.get_logger("phoenix.backup")


@dataclass(frozen=True, slots=True)
class Lost:
    """A backup that is gone, as whoever saw it or follows it knows it."""

    scope: Scope
    link: Link


class Backups:
    """What can be done with backups here. Everything blocks."""

    def __init__(self, spec: BackupSpec, layout: Layout, *, by: str = "phoenix", home: Home = HERE) -> None:
        """`by`: who acts, for records. `home`: whose backups they are.

        Raises Invalid for a storage that this Phoenix cannot use, Terminal for a key that cannot be.
        """
        self.spec = spec
        self._layout = layout
        self._by = by
        self.home = home
        storage = opened(spec.storage, layout.root / "backups")
        self.store, self._upkeep, self._lock = storage.objects, storage.upkeep, storage.lock
        own = layout.backup_keys / "signing.pem"
        self._signer = signing_key(home.signing_key or own, make=home.signing_key is None)
        self._trust = Trust([self._signer.public, *spec.trusted_keys])
        self.marks = Marks(
            self.store, storage.where, layout.backup_state / "storages", _now, missing=storage.missing
        )
        self._catalog = Catalog(self.store, self._trust, self.marks.cache)
        self.identities = _identities(spec, layout)
        self.recipients = [Recipient(one.key, one.name, one.offline) for one in spec.recipients]
        keys.require(self.recipients, self.identities)

    @property
    def public_key(self) -> str:
        """By which others know what was signed here."""
        return self._signer.public

    @property
    def signer(self) -> Signer:
        return self._signer

    @property
    def trust(self) -> Trust:
        """Whose manifests and records are believed."""
        return self._trust

    @property
    def rehearsal_servers(self) -> Sequence[Path]:
        """Programs for copies of Redis that the package's Valkey does not read."""
        return [Path(file) for file in self.spec.rehearsal_servers]

    # -- what there is -------------------------------------------------------------------------------

    def sources(self) -> Mapping[str, Source]:
        """By component: what is backed up here. One of a cluster may stand for several: see `members`."""
        volumes = self.home.volumes
        return {
            "config": self._config,
            **configured(self.spec.redis, os.environ),
            **files_configured.configured(self.spec.volumes, self._layout.backup_notes),
            **{name: self._of_cluster(name) for name in (volumes.components if volumes else ())},
            **{name: self._of_job(name) for name in (volumes.copies if volumes else ())},
        }

    def members(self, component: str) -> Sequence[str]:
        """What a component stands for now; itself, but for claims that are found by their labels."""
        volumes = self.home.volumes
        if volumes is None or component not in {*volumes.components, *volumes.copies}:
            return (component,)
        return volumes.members(component)

    def _of_cluster(self, component: str) -> Source:
        volumes = self.home.volumes
        assert volumes is not None
        return lambda: volumes.source(component, self._layout.backup_notes)

    def _of_job(self, component: str) -> Source:
        def refused() -> BackupSource:
            raise BadState(f"{component} is read by a Job in the cluster, and by nothing else")

        return refused

    def _source(self, component: str) -> Source:
        """Raises NotFound for a component that is not backed up here."""
        found, volumes = self.sources().get(component), self.home.volumes
        if found is None and volumes is not None and member_of(component, volumes.components):
            return self._of_cluster(component)
        if found is None:
            raise NotFound(
                f"{component!r} is not backed up here",
                remedy=f"there is {', '.join(sorted(self.sources())) or 'nothing'}",
            )
        return found

    def structural(self, component: str) -> Structural | None:
        """What knows how a copy of the component has to look."""
        if self.home.volumes is not None and component.partition("/")[0] == files_configured.KIND:
            return self.home.volumes.structural()
        known: dict[str, Callable[[], Structural]] = {
            "redis": _dump_check,
            "config": ConfigStructure,
            files_configured.KIND: FilesStructure,
            copied.KIND: FilesStructure,
        }
        found = known.get(component.partition("/")[0])
        return found() if found is not None else None

    def views(self, component: str = "") -> list[View]:
        """One for each component that is backed up here, or has backups. Raises StorageLostError."""
        self.marks.look()
        stored = {scope.component for scope in self._catalog.scopes(self.home.cluster, self.home.namespace)}
        names = stored | {
            name for name in self.sources() if not any(member_of(one, [name]) for one in stored)
        }
        return [
            self._catalog.read(self.home.scope(name))
            for name in sorted(names)
            if component in ("", name) or member_of(name, [component])
        ]

    def one(self, word: str = LATEST, *, component: str = "", as_of: datetime | None = None) -> Backup:
        """Raises NotFound, Invalid."""
        views = self.views(component)
        several = any(view.scope.component != component for view in views)
        return select(all_backups(views), word, component="" if several else component, as_of=as_of)

    # -- acts ----------------------------------------------------------------------------------------

    def run(
        self, component: str, trigger: Trigger, *, slot: datetime | None = None, told: Told | None = None
    ) -> Published | None:
        """See `publish`. Raises NotFound for a component that is not backed up here."""
        volumes = self.home.volumes
        if volumes is not None and (component in volumes.copies or member_of(component, volumes.copies)):
            return self._copied(volumes, component, trigger, slot, told or Told())
        return self.publish(self._source(component)(), trigger, slot=slot, told=told)

    def _copied(
        self, volumes: Volumes, component: str, trigger: Trigger, slot: datetime | None, told: Told
    ) -> Published | None:
        """Let a Job copy the newest snapshot that counts, and find what it has published."""
        scope = self.home.scope(component)
        instance = component.partition("/")[2]
        newest = self._catalog.read(self.home.scope(files_configured.component_of(instance))).newest_good
        if newest is None:
            raise BadState(
                f"there is no verified snapshot of {instance} that could be copied",
                remedy=f"phoenix backup run {files_configured.component_of(instance)}",
            )
        text = io.BytesIO()
        self.cat(newest, text)
        one = read_back(text.getvalue())
        known = {backup.id for backup in self._catalog.read(scope).backups}
        order = CopyOrder(
            storage=self.marks.use().id,
            home=self.home.namespace,
            component=component,
            namespace=one.namespace,
            claim=one.claim,
            snapshot=one.snapshot,
            backup=newest.id,
            moment=newest.manifest.time.consistency_point,
            trigger=trigger,
            slot=slot,
        )
        volumes.copy(order, one, told.stop)
        for backup in self._catalog.read(scope).live:
            if backup.id not in known and backup.verifications:
                return Published(backup.manifest, backup.sha256, backup.verifications[-1])
        return None

    def publish(
        self,
        source: BackupSource,
        trigger: Trigger,
        *,
        slot: datetime | None = None,
        told: Told | None = None,
    ) -> Published | None:
        """See `Publisher.publish`; then, where there is a tool for its kind, a look at its structure.

        That look is recorded like any other. Where it fails, the backup stays and does not count.
        """
        component = source.component
        mark = self.marks.use()
        publisher = Publisher(
            self.store,
            catalog=self._catalog,
            leases=leases(self.store, f"{platform.node()}/{os.getpid()}"),
            signer=self._signer,
            trust=self._trust,
            verifier=self.verifier,
            settings=Settings(
                self.recipients,
                level=self.spec.compression,
                shrink=self.spec.shrink,
                opener=self._opener,
                policy=self.spec.retention.policy,
                spooling=self._spooling(component),
                lock=self._lock,
                still=lambda: self.marks.still(mark),
            ),
            now=_now,
        )
        published = publisher.publish(
            self.home.cluster,
            self.home.namespace,
            source,
            trigger,
            slot=slot,
            told=told or Told(warn=lambda text: _log.warning("backup", component=component, what=text)),
        )
        return published and self._examined(published, told)

    def _examined(self, published: Published, told: Told | None) -> Published:
        component = published.manifest.component
        if not self.identities or self.structural(component) is None:
            return published
        try:
            backup = self.one(published.manifest.id, component=component)
            look = self.verify(backup, told=told)
        except (BadState, Retryable):  # no tool, or no storage: the next check looks
            return published
        return replace(published, look=look)

    def rekeyer(self, opening: Sequence[Identity]) -> Rekeyer:
        """Seals backups anew for the recipients of now. `opening`: private keys for the old ones."""
        return Rekeyer(
            self.store,
            self._catalog,
            leases(self.store, f"{platform.node()}/{os.getpid()}"),
            self._signer,
            self.verifier,
            opening,
            self.recipients,
            self._opener,
            _now,
            self._by,
        )

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.store, self.identities, _now, self._by)

    def verify(self, backup: Backup, level: Level | None = None, *, told: Told | None = None) -> Verification:
        """Look, and put what was seen beside the backup. `level` left out: as far as can be seen of a stream.

        Raises Invalid for a level that cannot be seen here.
        """
        told = told or Told()
        component = backup.manifest.component
        if level is Level.SERVED:
            raise Invalid(
                "level 5 is seen where everything is recovered and serves",
                remedy="phoenix drill run monthly",
            )
        structural = self.structural(component) if self.identities else None
        if level is Level.LOADED and structural is not None and component.startswith("redis"):
            structural = _dump_load(self.rehearsal_servers)
        most = self.verifier.highest if structural is None else structural.level
        level = most if level is None else level
        if level > most:
            raise Invalid(
                f"level {level.value} cannot be looked at here, only up to {most.value}",
                remedy=(
                    "leave --level out; for level 4 of what is no Redis: phoenix drill run weekly"
                    if self.identities
                    else "name backup.identityFile"
                ),
            )
        look = self.verifier.look(
            backup.manifest,
            backup.sha256,
            level,
            structural=structural if level >= Level.STRUCTURE else None,
            progress=told.looking,
            stop=told.stop,
        )
        record_look(self.store, backup.manifest.scope, look, self._signer)
        return look

    def pin(self, backup: Backup, reason: str) -> Pin:
        """Keep it until it is unpinned. Raises Conflict where it is pinned."""
        pin = Pin(backup=backup.id, at=_now(), by=self._by, reason=reason)
        self.store.create(backup.manifest.scope.record(backup.id, "pin"), encoded(pin, self._signer))
        return pin

    def unpin(self, backup: Backup) -> None:
        self.store.delete(backup.manifest.scope.record(backup.id, "pin"))

    def acknowledge(self, backup: Backup, reason: str) -> Acknowledgement:
        """It is right that it is much smaller than those before."""
        said = Acknowledgement(backup=backup.id, at=_now(), by=self._by, reason=reason)
        self.store.create(
            backup.manifest.scope.record(backup.id, "acknowledged"), encoded(said, self._signer)
        )
        return said

    def lost(self, word: str) -> Lost | None:
        """A backup that is gone, and nothing says why, by its id or the beginning of it."""
        found = {
            fault.lost.id: Lost(view.scope, fault.lost)
            for view in self.views()
            for fault in view.faults
            if fault.lost is not None and fault.lost.id.startswith(word)
        }
        return next(iter(found.values())) if len(found) == 1 else None

    def acknowledge_loss(self, loss: Lost, reason: str) -> None:
        """It is gone, and that is known: the catalog has no fault by it any more."""
        link = loss.link
        said = Loss(backup=link.id, manifest=link.sha256, at=_now(), by=self._by, reason=reason)
        self.store.create(loss.scope.record(link.id, "lost"), encoded(said, self._signer))

    def seen(self, view: View) -> Seen:
        """What the storage says besides, for figures."""
        now, scope = _now(), view.scope
        last = None
        with contextlib.suppress(Corrupted):
            last = Claims(self.store, scope, self._signer, self._trust).last()
        return Seen(
            every=self.spec.schedule.of(scope.component),
            now=now,
            decisions=retain(self.spec.retention.policy, [candidate(one, now) for one in view.live], now),
            orphans=self._pruner.left_over(view),
            last=last,
        )

    def plan(self, view: View) -> Plan:
        retention = self.spec.retention
        return plan(view, retention.policy, retention.limits, _now(), self.store.now())

    def prune(self, view: View, planned: Plan, *, dry_run: bool = False) -> Pruned:
        return self._pruner.run(view, planned, dry_run=dry_run, upkeep=self._upkeep)

    @property
    def _pruner(self) -> Pruner:
        volumes = self.home.volumes
        outside = volumes.outside if volumes is not None else None
        return Pruner(self.store, self._signer, _now, self._by, outside=outside)

    def cat(self, backup: Backup, sink: Writer, *, told: Told | None = None) -> None:
        """The content into `sink`, which holds it only when this returns. Raises Corrupted."""
        told = told or Told()
        if not self.identities:
            raise Invalid(
                "there is no private key here to open backups with",
                remedy="name its file with --identity, or as backup.identityFile",
            )
        with self.store.reader(backup.manifest.stream.key) as reader:
            unseal(
                reader,
                sink,
                self.identities,
                expected(backup.manifest),
                progress=told.looking,
                stop=told.stop,
            )

    def _spooling(self, component: str) -> Spooling | None:
        """Of Redis, and of volumes, whose application may be at rest until all is read; the configuration is
        small, and on the disk."""
        spool = self.spec.spool
        if component == "config" or not spool.most:
            return None
        folder = Path(spool.folder) if spool.folder is not None else self._layout.backup_state / "spool"
        return Spooling(folder, spool.most)

    # -- sources -------------------------------------------------------------------------------------

    def _config(self) -> BackupSource:
        """What was applied, who may get in, and what people said."""
        state = self._layout.configurations
        source = ConfigSource(
            state,
            self.home.configuration or config_files(self._layout),
            [one.text for one in self.recipients],
            last_bundle=self._last_bundle,
            now=_now,
        )
        if self.home.configuration is None:
            return source
        return SharedConfigSource(source, state, self._signer, self._last_commit)

    def _newest_config(self) -> Backup | None:
        view = self._catalog.read(self.home.scope("config"))
        return view.newest_good or next(iter(view.live), None)

    def _last_commit(self) -> str | None:
        newest = self._newest_config()
        return str(newest.manifest.content.get("commit")) if newest is not None else None

    def _last_bundle(self) -> AbstractContextManager[Reader] | None:
        """Only a history that was never backed up may be begun anew. Raises Invalid without a key."""
        newest = self._newest_config()
        if newest is None:
            return None
        if not self.identities:
            raise Invalid(
                f"the history of configurations is lost here, and no key opens its backup {newest.id}",
                remedy="name the file of a private key as backup.identityFile",
            )
        return self._opened(newest)

    @contextlib.contextmanager
    def _opened(self, backup: Backup) -> Iterator[Reader]:
        """The content as a whole, from a file without a name."""
        with tempfile.TemporaryFile(dir=self._layout.backup_state) as file:
            self.cat(backup, file)
            file.seek(0)
            yield file

    def _opener(self, key: str) -> str:
        if isinstance(self.store, FolderStore):
            return f"cat {quoted(str(self.store.root / key))}"
        if not isinstance(self.store, BucketStore):
            return f"get {quoted(key)}"
        location = self.store.location
        endpoint = f"--endpoint-url {quoted(location.url)} " if location.endpoint else ""
        return f"aws s3 cp {endpoint}{quoted(f's3://{location.bucket}/{location.prefix}{key}')} -"


def _dump_load(named: Sequence[Path]) -> Structural:
    from phoenix_orch.recovery.rdb_load import DumpLoad  # noqa: PLC0415 - half a second

    return DumpLoad(named)


def member_of(component: str, several: Sequence[str]) -> bool:
    """Whether it is one claim of those that one of `several` stands for: `volume/shop.data-0`. Pure."""
    name, dot, _ = component.partition(".")
    of_claims = name.startswith((f"{files_configured.KIND}/", f"{copied.KIND}/"))
    return bool(dot) and of_claims and name in several


def _dump_check() -> Structural:
    from phoenix_orch.recovery.rdb_walked import AnyDump  # noqa: PLC0415 - redis: 0.4 s

    return AnyDump()


def _identities(spec: BackupSpec, layout: Layout) -> list[Identity]:
    """The private keys at hand. Raises Invalid for a file that is named and cannot be read."""
    if spec.identity_file is not None:
        return keys.read(Path(spec.identity_file))
    path = layout.backup_keys / ONLINE_KEY
    return keys.read(path) if os.path.lexists(path) else []


def _now() -> datetime:
    return datetime.now(UTC)

"""What backups there are: read from the bucket, which alone is the truth.

A manifest counts when its signature holds, it lies where it says, and no later one was built on another
manifest in its place. Each names the one before it with its digest: one that was exchanged or taken away
without a tombstone is found. What is kept locally makes reading quicker and tells of backups that were seen
and are gone; it may be removed at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.layout import Scope, parse, parse_record
from phoenix_orch.recovery.manifest import (
    Acknowledgement,
    Level,
    Link,
    Loss,
    Manifest,
    Pin,
    R,
    Tombstone,
    TriggerKind,
    Verification,
    decoded,
    read_manifest,
)
from phoenix_orch.recovery.objects import ObjectStore, Stat
from phoenix_orch.recovery.retention import GRACE, MOST_SKEW
from phoenix_orch.recovery.signing import LARGEST, Tampered, Trust
from phoenix_orch.runtime.files import make_private

COUNTS = Level.OPENED
"""From here on a backup is verified: its content was seen to be what was read."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in the bucket that is not as Phoenix left it."""

    key: str
    message: str
    remedy: str = ""
    lost: Link | None = None
    """The backup that is gone, where that is what is wrong."""


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup, with everything that was learnt of it since."""

    manifest: Manifest
    sha256: str
    """Of its manifest's bytes."""
    data: Stat | None
    """None: the data is gone."""
    verifications: tuple[Verification, ...] = ()
    """Oldest first."""
    pin: Pin | None = None
    acknowledged: Acknowledgement | None = None
    tombstone: Tombstone | None = None
    """It is to be removed."""
    future: bool = False
    """Dated later than the moment at which it was read: a clock was wrong when it was taken, or is now. While
    there are others it is not the newest."""

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def at(self) -> datetime:
        return self.manifest.moment

    @property
    def present(self) -> bool:
        """The data is there with its size, as the listing says."""
        return self.data is not None and self.data.size == self.manifest.stream.stored_bytes

    @property
    def level(self) -> Level | None:
        """How far it was seen to hold, by the newest look at each level; None: it was not looked at."""
        return standing(self.verifications)

    @property
    def failed(self) -> Verification | None:
        """The look that found it broken, when nothing since has said otherwise."""
        return failure(self.verifications)

    @property
    def before_restore(self) -> bool:
        """It holds what a restore wrote over: a person may name it, and nothing goes back to it by itself."""
        return self.manifest.trigger.kind is TriggerKind.PRE_RESTORE

    @property
    def shrunk(self) -> bool:
        """Much smaller than those before, and nobody has said that it is right. What a restore wrote over may
        be small: that is why somebody restored."""
        return bool(self.manifest.drops) and self.acknowledged is None and not self.before_restore

    @property
    def good(self) -> bool:
        """It counts: verified, there, and as large as it should be."""
        level = self.level
        return level is not None and level >= COUNTS and self.present and not self.shrunk and not self.failed


@dataclass(frozen=True, slots=True)
class View:
    """The backups of one scope at one moment."""

    scope: Scope
    backups: tuple[Backup, ...]
    """Newest first; those with a tombstone among them."""
    faults: tuple[Fault, ...] = ()
    tombstones: tuple[Tombstone, ...] = ()
    """Of backups whose manifest is gone."""
    losses: tuple[Loss, ...] = ()
    """Of those that are gone, and nothing but this says why."""

    @property
    def live(self) -> tuple[Backup, ...]:
        """Those that are not to be removed."""
        return tuple(one for one in self.backups if one.tombstone is None)

    @property
    def newest(self) -> Backup | None:
        """Verified or not, of those that were taken to be gone back to."""
        return _first(one for one in self.live if not one.before_restore)

    @property
    def newest_good(self) -> Backup | None:
        """Of those that were taken to be gone back to."""
        return _first(one for one in self.live if one.good and not one.before_restore)


def _first(backups: Iterable[Backup]) -> Backup | None:
    """The first that is not of the future, where there is one."""
    known = list(backups)
    return next((one for one in known if not one.future), next(iter(known), None))


def standing(looks: Sequence[Verification]) -> Level | None:
    """The level that looks, oldest first, add up to: a failure takes away its level and those above."""
    found = -1
    for look in looks:
        found = max(found, look.level) if look.passed else min(found, look.level - 1)
    return Level(found) if found >= 0 else None


def failure(looks: Sequence[Verification]) -> Verification | None:
    """The last failure that no look at its level or above has passed since."""
    found: Verification | None = None
    for look in looks:
        if not look.passed:
            found = look
        elif found is not None and look.level >= found.level:
            found = None
    return found


class Catalog:
    """Reads one bucket. Not for several threads at once."""

    def __init__(
        self,
        store: ObjectStore,
        trust: Trust,
        cache: Path | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`cache`: a directory of ours, for this storage alone; None: everything is read anew each time."""
        self._store = store
        self._trust = trust
        self._cache = cache
        self._now = now

    def scopes(self, cluster: str, namespace: str) -> list[Scope]:
        """All that have anything of a backup."""
        found = {
            known.place.scope
            for stat in self._store.list(f"v1/{cluster}/{namespace}/")
            if (known := parse(stat.key)) is not None
        }
        return sorted(found)

    def read(self, scope: Scope) -> View:
        """Raises what the store raises; what is wrong in the bucket is told in the view."""
        faults: list[Fault] = []
        cached = _Cached(self._store, None if self._cache is None else self._cache / _folder(scope))
        records = _Records(self._trust, self._now() + MOST_SKEW)
        for stat in self._store.list(scope.records):
            known = parse_record(stat.key)
            if known is not None and known.scope == scope:
                with _told(faults, stat.key):
                    records.add(known.backup, known.kind, stat.key, cached.get(stat))
        data, manifests = self._listed(scope)
        found: dict[str, Backup] = {}
        for stat in manifests:
            with _told(faults, stat.key):
                manifest, sha256 = read_manifest(cached.get(stat), stat.key, self._trust)
                if manifest.id in found:
                    raise Tampered(f"{stat.key} has the id of another backup, {manifest.id}")
                found[manifest.id] = records.backup(manifest, sha256, data.get(manifest.stream.key))
        faults += self._unchained(found, records)
        there = {one.id: one.sha256 for one in found.values()}
        told = {fault.lost.id for fault in faults if fault.lost is not None}
        removed = {*records.tombstones, *records.losses}
        faults += [
            Fault(
                "", f"{link.id} was seen here earlier and is gone, and nothing says why", _lost(link.id), link
            )
            for link in cached.vanished(there, removed, self._now())
            if link.id not in told
        ]
        backups = sorted(found.values(), key=lambda one: (one.at, one.id), reverse=True)
        gone = tuple(one for name, one in records.tombstones.items() if name not in found)
        lost = tuple(one for name, one in records.losses.items() if name not in found)
        return View(scope, tuple(backups), tuple(faults), gone, lost)

    def _listed(self, scope: Scope) -> tuple[dict[str, Stat], list[Stat]]:
        data: dict[str, Stat] = {}
        manifests: list[Stat] = []
        for stat in self._store.list(scope.backups):
            known = parse(stat.key)
            if known is None or known.place.scope != scope:
                continue
            if known.attempt is None:
                manifests.append(stat)
            else:
                data[stat.key] = stat
        return data, manifests

    def _unchained(self, found: dict[str, Backup], records: _Records) -> Iterator[Fault]:
        """What the chain says against; a manifest that was exchanged is taken out of `found`."""
        followed: dict[str, str] = {}
        for one in sorted(found.values(), key=lambda one: (one.at, one.id)):
            link = one.manifest.previous
            if link is None:
                continue
            key = one.manifest.place.manifest
            if link.id in followed:
                yield Fault(key, f"{one.id} and {followed[link.id]} both follow {link.id}")
            followed[link.id] = one.id
            before = found.get(link.id)
            if before is None:
                if not records.known_to_be_gone(link):
                    what = f"{link.id}, which {one.id} follows, is gone, and nothing says why"
                    yield Fault(key, what, _lost(link.id), link)
            elif before.sha256 != link.sha256:
                yield Fault(
                    before.manifest.place.manifest,
                    f"{link.id} is not the manifest that {one.id} follows",
                    "find out who wrote it, and put back what was there; or remove it, and then: "
                    f"phoenix backup acknowledge {link.id}",
                )
                del found[link.id]


class _Records:
    """What was learnt of backups, by their ids."""

    def __init__(self, trust: Trust, latest: datetime) -> None:
        """`latest`: what is later is of the future."""
        self._trust = trust
        self._latest = latest
        self.tombstones: dict[str, Tombstone] = {}
        self.losses: dict[str, Loss] = {}
        self._looks: dict[str, list[Verification]] = {}
        self._pins: dict[str, Pin] = {}
        self._acknowledged: dict[str, Acknowledgement] = {}

    def add(self, backup: str, kind: str, key: str, raw: bytes) -> None:
        """Raises Tampered."""
        if kind == "verified":
            self._looks.setdefault(backup, []).append(self._of(backup, key, raw, Verification))
        elif kind == "pin":
            self._pins[backup] = self._of(backup, key, raw, Pin)
        elif kind == "acknowledged":
            self._acknowledged[backup] = self._of(backup, key, raw, Acknowledgement)
        elif kind == "lost":
            self.losses[backup] = self._of(backup, key, raw, Loss)
        else:
            self.tombstones[backup] = self._of(backup, key, raw, Tombstone)

    def known_to_be_gone(self, link: Link) -> bool:
        said = (self.tombstones.get(link.id), self.losses.get(link.id))
        return any(one is not None and one.manifest == link.sha256 for one in said)

    def _of(self, backup: str, key: str, raw: bytes, model: type[R]) -> R:
        record = decoded(raw, model, self._trust, key)
        if getattr(record, "backup", None) != backup:
            raise Tampered(f"{key} is the record of another backup")
        return record

    def backup(self, manifest: Manifest, sha256: str, data: Stat | None) -> Backup:
        looks = [one for one in self._looks.get(manifest.id, ()) if one.manifest == sha256]
        return Backup(
            manifest,
            sha256,
            data,
            tuple(sorted(looks, key=lambda one: one.at)),
            self._pins.get(manifest.id),
            self._acknowledged.get(manifest.id),
            self.tombstones.get(manifest.id),
            future=max(manifest.moment, manifest.time.consistency_point) > self._latest,
        )


@dataclass(slots=True)
class _Cached:
    """Small objects that were read before, by key and etag. What it gives is checked as if it were new."""

    store: ObjectStore
    folder: Path | None
    _used: set[str] = field(default_factory=set)

    def get(self, stat: Stat) -> bytes:
        """Raises Tampered for what is too large for a record, and what the store raises."""
        if stat.size > LARGEST:
            raise Tampered(f"{stat.key} is no record of Phoenix: it has {stat.size:,} bytes")
        if self.folder is None:
            return self.store.get(stat.key)[0]
        name = hashlib.sha256(f"{stat.key}\0{stat.etag}\0{stat.size}".encode()).hexdigest()[:32]
        self._used.add(name)
        path = self.folder / name
        with contextlib.suppress(OSError):
            raw = path.read_bytes()
            if len(raw) == stat.size + 32 and hashlib.sha256(raw[32:]).digest() == raw[:32]:
                return raw[32:]
        raw = self.store.get(stat.key)[0]
        if len(raw) == stat.size:
            _put(path, hashlib.sha256(raw).digest() + raw)
        return raw

    def vanished(self, there: Mapping[str, str], removed: set[str], now: datetime) -> Iterator[Link]:
        """Backups that were seen here earlier and are gone without a word; and drop what is used no more.

        Whoever looks less often than once in the day of grace may have missed the tombstones that said it:
        what went between two such looks is not told of.
        """
        if self.folder is None:
            return
        path = self.folder / "seen.json"
        before = _seen_before(path)
        lost = {name: value for name, value in before.lost.items() if name not in {*there, *removed}}
        if timedelta(0) <= now - before.at < GRACE - 2 * MOST_SKEW:
            lost |= {name: value for name, value in before.there.items() if name not in {*there, *removed}}
        for name in sorted(lost):
            yield Link(id=name, sha256=lost[name])
        here = {name: value for name, value in there.items() if name not in removed}
        if (here, lost) != (before.there, before.lost) or now - before.at > MOST_SKEW:
            _put(path, json.dumps({"at": now.isoformat(), "there": here, "lost": lost}).encode())
        with contextlib.suppress(OSError):
            for old in self.folder.iterdir():
                if old.name not in self._used and old.name != path.name:
                    old.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _SeenBefore:
    """Ids of backups, and the SHA-256 of their manifests."""

    at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    there: dict[str, str] = field(default_factory=dict)
    """Those that were not to be removed."""
    lost: dict[str, str] = field(default_factory=dict)


def _seen_before(path: Path) -> _SeenBefore:
    try:
        read = json.loads(path.read_bytes())
        there, lost = (
            {str(name): str(one) for name, one in read[part].items()} for part in ("there", "lost")
        )
        return _SeenBefore(datetime.fromisoformat(read["at"]).astimezone(UTC), there, lost)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return _SeenBefore()


def _put(path: Path, content: bytes) -> None:
    """Whole or not at all; a cache that cannot be written is none."""
    with contextlib.suppress(OSError):
        make_private(path.parent)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(content)
        temporary.replace(path)


def _lost(backup: str) -> str:
    return (
        "find out who removed it, and from where: nothing is pruned meanwhile. Once that is known: phoenix "
        f"backup acknowledge {backup}"
    )


def _folder(scope: Scope) -> str:
    return hashlib.sha256(scope.path.encode()).hexdigest()[:16]


@contextlib.contextmanager
def _told(faults: list[Fault], key: str) -> Iterator[None]:
    """What cannot be read is told of and does not count. Gone since it was listed is no fault."""
    try:
        yield
    except Corrupted as error:
        faults.append(Fault(key, error.message, error.remedy))
    except NotFound:
        pass


def all_backups(views: Iterable[View]) -> list[Backup]:
    """Of all scopes, newest first."""
    found = [one for view in views for one in view.backups]
    return sorted(found, key=lambda one: (one.at, one.id), reverse=True)

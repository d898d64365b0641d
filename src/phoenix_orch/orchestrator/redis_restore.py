"""A restore of a Redis, put together from a storage and a key file: nothing else of Phoenix has to be alive.

How everything is reached is kept beside the journal, so that a person gives it once, with the plan. Secrets
are not: only where they are read from.
"""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from phoenix_orch.kernel.errors import BadState, Invalid, NotFound, Outdated
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.recorded import Wish, recorded
from phoenix_orch.recovery import keys
from phoenix_orch.recovery.catalog import Backup, Catalog, all_backups
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.keys import Recipient
from phoenix_orch.recovery.layout import Scope
from phoenix_orch.recovery.lease import leases
from phoenix_orch.recovery.manifest import Part, Trigger, TriggerKind
from phoenix_orch.recovery.object_store import BucketStore
from phoenix_orch.recovery.objects import ObjectStore
from phoenix_orch.recovery.publish import Published, Publisher, Settings
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.redis_asking import facts_of
from phoenix_orch.recovery.restore.acts import Second
from phoenix_orch.recovery.restore.claim import claimed
from phoenix_orch.recovery.restore.cluster_run import ClusterRestorer
from phoenix_orch.recovery.restore.copies import copies, passed_over, shard_of
from phoenix_orch.recovery.restore.copy_keys import Copies
from phoenix_orch.recovery.restore.feed_tls import Certificate
from phoenix_orch.recovery.restore.journal import TOUCHED, Entry, Journal
from phoenix_orch.recovery.restore.plan import HASH, Look, RestorePlan
from phoenix_orch.recovery.restore.redis_keys import Selection, move
from phoenix_orch.recovery.restore.redis_preflight import Weight
from phoenix_orch.recovery.restore.redis_target import Listen
from phoenix_orch.recovery.restore.run import Restorer
from phoenix_orch.recovery.restore.slot_owners import Owner, owners_of
from phoenix_orch.recovery.s3_location import S3Location
from phoenix_orch.recovery.selecting import LATEST, select
from phoenix_orch.recovery.signing import Trust, canonical, digest, signing_key
from phoenix_orch.recovery.sources.redis import RedisSource
from phoenix_orch.recovery.sources.redis_configured import login
from phoenix_orch.recovery.sources.redis_shards import Shard
from phoenix_orch.recovery.sources.redis_spec import Prefer, RedisSpec, RedisTlsSpec
from phoenix_orch.recovery.spec import SpoolSpec
from phoenix_orch.recovery.storing import Spooling
from phoenix_orch.recovery.verifying import Verifier
from phoenix_orch.runtime.files import make_private
from phoenix_orch.runtime.valkey_name import write_private

_S3 = "s3://"
Agree = Callable[[str, str], Second]
"""Ask a second person about an action on a target. Raises BadState where nobody has agreed yet."""


class How(Part):
    """How everything of one restore is reached. Holds no secret."""

    storage: str
    """A folder, or `s3://bucket/prefix`; keys of S3 are in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""
    endpoint: str = ""
    region: str = "us-east-1"
    ca: str | None = None
    """Of who vouches for the endpoint."""
    identity: str
    """File with a private key that opens the copies."""
    signed_by: tuple[str, ...] = ()
    """Public keys of the machines that took them."""
    cluster: str = "local"
    namespace: str = "default"
    component: str
    target: str
    user: str = ""
    password_env: str | None = None
    password_file: str | None = None
    target_ca: str | None = None
    """TLS to the target, by this authority."""
    target_cert: str | None = None
    """Our certificate, for a target that asks for one."""
    target_key: str | None = None
    listen: str = ""
    """HOST:PORT by which the target reaches us."""
    listen_cert: str | None = None
    """What we show a target that takes data over TLS alone; left out: `target_cert`."""
    listen_key: str | None = None
    rehearsal_servers: tuple[str, ...] = ()
    """Programs that load the copy where the package's Valkey does not."""


class KeysDone(Part):
    """What came of moving some keys, or would."""

    backup: str
    hash: str
    """To type, for it to be done."""
    done: bool
    matched: int
    restored: int
    overwritten: int
    skipped: int
    expired: int


class RedisRestore:
    """What can be done with restores of one data directory. Everything blocks."""

    def __init__(
        self,
        data_dir: Path,
        environment: Mapping[str, str],
        *,
        by: str,
        tell: Callable[[str], None],
        agree: Agree = lambda _action, _target: Second.NOT_WANTED,
        reason: str = "",
    ) -> None:
        """`by`: who acts, and `reason` why, for records. `agree` is asked about what writes over data."""
        self._layout = Layout(data_dir)
        self._agree = agree
        self._reason = reason
        self._folder = data_dir / "restores"
        self._signing = data_dir / "keys" / "signing.pem"
        self._environment = environment
        self._by = by
        self._tell = tell
        self.journal = Journal(self._folder)

    def plan(self, how: How, word: str, as_of: datetime | None, *, dead: bool) -> RestorePlan:
        """Look, and write down what would be done. Raises PhoenixError."""
        store, target = self._store(how), self.target(how)
        backups = self._backups(how, store)
        taken = copies(backups, how.component, word, as_of)
        if len(taken) > 1 or owners_of(target)[0].cluster:
            plan = self._cluster(how, store).plan(taken, target, dead=dead)
        else:
            plan = self._restorer(how, store).plan(taken[0].backup, target, dead=dead)
        if word == LATEST and as_of is None:
            plan = plan.model_copy(update={"looks": (*_newer(passed_over(backups, taken)), *plan.looks)})
        make_private(self._folder)
        write_private(self._folder / f"{plan.id}.how", how.model_dump_json(by_alias=True, indent=2))
        return plan

    def keys(
        self, how: How, word: str, as_of: datetime | None, selection: Selection, confirmed: str
    ) -> KeysDone:
        """Count the keys of a copy that would be moved, and move them where the hash of that is given."""
        store, target = self._store(how), self.target(how)
        taken = copies(self._backups(how, store), how.component, word, as_of)
        copy = Copies(store, keys.read(Path(how.identity)), taken)
        owners = owners_of(target)
        counted = move(copy.keys(selection, values=False), owners, selection, dry_run=True)
        runs = [facts_of(one.address).run_id for one in owners]
        told = {
            "backup": [one.backup.sha256 for one in taken],
            "target": str(target),
            "run": runs,
            "selection": repr(selection),
            "overwritten": counted.overwritten,
        }
        hash_ = digest(canonical(told))[:HASH]
        done = confirmed == hash_
        if confirmed and not done:
            raise Outdated(
                "something else would be written over than was counted",
                remedy="leave --confirm out, and look",
            )
        named = ",".join(one.backup.id for one in taken)
        if done:
            wish = self._keys_wish(named, how.component, selection, f"redis/{target}", hash_)
            if counted.overwritten:
                wish = replace(wish, second=self._agree(wish.action, f"{wish.target} plan {hash_}"))
            claim = claimed(store, runs, f"{platform.node()}/keys-{sortable_id(_now())}", self._tell)
            with (
                recorded(self._layout, wish, store=store, tell=self._tell, begin_log=True) as came,
                claim,
            ):
                counted = move(copy.keys(selection), owners, selection)
                came.update(backup=named, **dataclasses.asdict(counted))
        return KeysDone(backup=named, hash=hash_, done=done, **dataclasses.asdict(counted))

    def run(self, name: str, confirmed: str) -> Entry:
        """Do what was planned, or go on with it; recorded before and after. Raises PhoenixError."""
        entry, how = self._known(name)
        plan, store = entry.plan, self._store(how)
        restorer, target = self._restorer(how, store), self.target(how)
        restorer.confirmed(entry, target, confirmed)
        acting = self._cluster(how, store) if plan.copies else restorer
        wish = Wish(
            "restore.redis",
            f"redis/{plan.target}",
            self._by,
            plan.hash,
            self._reason,
            told={"restore": plan.id, "backup": plan.backup, "keys": plan.target_keys},
        )
        # what was begun is ended without a second question: the target may take no writes until then
        if plan.target_keys and entry.state not in TOUCHED:
            wish = replace(wish, second=self._agree(wish.action, f"{wish.target} plan {plan.hash}"))
        with recorded(self._layout, wish, store=store, tell=self._tell, begin_log=True) as done:
            ended = acting.run(plan.id, target, confirmed)
            done.update(restore=plan.id, backup=plan.backup, state=ended.state.value, safety=ended.safety)
        return ended

    def look(self, name: str, confirmed: str = "") -> RestorePlan:
        """Everything that `run` looks at before it changes something, as a plan of this moment.

        Raises PhoenixError, Outdated where the plan does not hold any more.
        """
        entry, how = self._known(name)
        store, target = self._store(how), self.target(how)
        restorer = self._restorer(how, store)
        restorer.confirmed(entry, target, confirmed or entry.plan.hash)
        found = (self._cluster(how, store) if entry.plan.copies else restorer).look(entry, target)
        if found.model_copy(update={"safety": entry.plan.safety}).hash != entry.plan.hash:
            raise Outdated(
                "the server or the copy is another than when the plan was made",
                remedy="plan anew: phoenix restore plan",
            )
        return found

    def abort(self, name: str) -> Entry:
        """End a restore that died; recorded before and after."""
        entry, how = self._known(name)
        plan, store = entry.plan, self._store(how)
        wish = Wish(
            "restore.abort",
            f"redis/{plan.target}",
            self._by,
            plan.hash,
            self._reason,
            told={"restore": plan.id, "state": entry.state.value},
        )
        with recorded(self._layout, wish, store=store, tell=self._tell, begin_log=True) as done:
            if plan.copies:
                ended = self._cluster(how, store).abort(plan.id)
            else:
                ended = self._restorer(how, store).abort(plan.id, self.target(how))
            done.update(restore=plan.id, message=ended.message)
        return ended

    def target(self, how: How) -> RedisAddress:
        """With its password. Raises Invalid."""
        return login(self._spec(how), self._environment)

    # -- parts ---------------------------------------------------------------------------------------

    def _backups(self, how: How, store: ObjectStore) -> list[Backup]:
        """Of the component and of its shards. Raises BadState where none of them can be trusted."""
        catalog, mine = self._catalog(how, store), Scope(how.cluster, how.namespace, how.component)
        shards = [
            one
            for one in catalog.scopes(how.cluster, how.namespace)
            if shard_of(one.component, how.component)
        ]
        views = [catalog.read(one) for one in (mine, *shards)]
        found, faults = all_backups(views), [one for view in views for one in view.faults]
        if not found and faults:
            raise BadState(
                f"no copy of {how.component} can be trusted: {faults[0].message}",
                remedy="give the public key of the machine that took it: --signed-by KEY",
            )
        return found

    def _keys_wish(self, backup: str, component: str, selection: Selection, target: str, hash_: str) -> Wish:
        told = {"backup": backup, "component": component, "selection": dataclasses.asdict(selection)}
        return Wish("restore.keys", target, self._by, hash_, self._reason, told=told)

    def _known(self, name: str) -> tuple[Entry, How]:
        entry = self.journal.read(name)
        path = self._folder / f"{entry.plan.id}.how"
        try:
            return entry, How.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            raise NotFound(
                f"it is not known any more how restore {name} was planned", remedy="plan anew"
            ) from None

    def _restorer(self, how: How, store: ObjectStore) -> Restorer:
        identities = keys.read(Path(how.identity))
        verifier = Verifier(store, identities, _now, self._by)

        def find(word: str) -> Backup:
            return select(self._backups(how, store), word)

        def keep_safe(address: RedisAddress) -> Published:
            return self._kept_safe(
                how, store, verifier, RedisSource(how.component, address, self._whole(how))
            )

        return Restorer(
            store,
            identities,
            verifier,
            find,
            self.journal,
            _now,
            keep_safe=keep_safe,
            listen=_listen(how),
            servers=[Path(one) for one in how.rehearsal_servers],
            tell=self._tell,
        )

    def _cluster(self, how: How, store: ObjectStore) -> ClusterRestorer:
        base = self._restorer(how, store)

        def keep_safe(owner: Owner, number: int) -> Published:
            component, shard = how.component, None
            if owner.cluster:
                component = f"{component.partition('.shard')[0]}.shard{number}"
                shard = Shard(owner.slots, (owner.address.host, owner.address.port))
            source = RedisSource(component, owner.address, self._whole(how), shard=shard)
            return self._kept_safe(how, store, base.verifier, source)

        return ClusterRestorer(base, keep_safe)

    def _whole(self, how: How) -> RedisSpec:
        """The server itself gives the copy, not a replica of it."""
        return self._spec(how).model_copy(update={"prefer": Prefer.PRIMARY})

    def _kept_safe(self, how: How, store: ObjectStore, verifier: Verifier, source: RedisSource) -> Published:
        """A copy of the target beside those of its component, for whoever can open these."""
        recipients = [
            Recipient(key, f"recipient-{n}")
            for n, key in enumerate(self._backups(how, store)[0].manifest.stream.recipients)
        ]
        publisher = Publisher(
            store,
            catalog=self._catalog(how, store),
            leases=leases(store, f"{platform.node()}:{os.getpid()}"),
            signer=signing_key(self._signing),
            trust=self._trust(how),
            verifier=verifier,
            settings=Settings(
                recipients, spooling=Spooling(self._layout.backup_state / "spool", SpoolSpec().most)
            ),
            now=_now,
        )
        trigger = Trigger(kind=TriggerKind.PRE_RESTORE, actor=self._by)
        made = publisher.publish(how.cluster, how.namespace, source, trigger)
        assert made is not None  # only slots may be taken already
        return made

    def _catalog(self, how: How, store: ObjectStore) -> Catalog:
        return Catalog(store, self._trust(how))

    def _trust(self, how: How) -> Trust:
        return Trust([signing_key(self._signing).public, *how.signed_by])

    def _spec(self, how: How) -> RedisSpec:
        tls = None
        if how.target_ca is not None or how.target_cert is not None:
            tls = RedisTlsSpec(ca=how.target_ca, cert=how.target_cert, key=how.target_key)
        try:
            return RedisSpec(
                address=how.target,
                username=how.user,
                tls=tls,
                password_env=how.password_env,
                password_file=how.password_file,
            )
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise Invalid(f"--to {how.target}: {reason}", remedy="write --to HOST:PORT") from None

    def _store(self, how: How) -> ObjectStore:
        if not how.storage.startswith(_S3):
            folder = Path(how.storage)
            if not folder.is_dir():
                raise Invalid(
                    f"there is no folder {folder}", remedy="name the storage: --storage FOLDER or s3://…"
                )
            return FolderStore(folder)
        bucket, _, prefix = how.storage.removeprefix(_S3).partition("/")
        return BucketStore(
            S3Location(
                bucket,
                how.region,
                how.endpoint,
                f"{prefix.rstrip('/')}/" if prefix else "",
                Path(how.ca) if how.ca else None,
                self._environment.get("AWS_ACCESS_KEY_ID", ""),
                self._environment.get("AWS_SECRET_ACCESS_KEY", ""),
                self._environment.get("AWS_SESSION_TOKEN", ""),
            )
        )


def _newer(backups: Sequence[Backup]) -> list[Look]:
    """What is told of newer copies that are not taken."""
    if not backups:
        return []
    newest = backups[0]
    why = "does not hold" if newest.failed else "is much smaller than those before" if newest.shrunk else ""
    more = f"; {len(backups) - 1} more" if len(backups) > 1 else ""
    moment = f"{newest.manifest.time.consistency_point:%Y-%m-%d %H:%M:%S} UTC"
    found = f"{newest.id} of {moment} {why or 'is not verified'}, and is not taken{more}"
    remedy = f"--backup {newest.id} takes it all the same"
    return [Look(check="newer copies", weight=Weight.WARNS, found=found, remedy=remedy)]


def _listen(how: How) -> Listen:
    """Raises Invalid."""
    own = (how.listen_cert, how.listen_key) if how.listen_cert else (how.target_cert, how.target_key)
    certificate = None
    if own[0] is not None:
        certificate = Certificate(Path(own[0]), Path(own[1]) if own[1] is not None else None)
    text = how.listen
    if not text:
        return Listen(certificate=certificate)
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise Invalid(f"--listen {text} is no HOST:PORT", remedy="an address by which the target reaches us")
    return Listen(host.strip("[]"), int(port), certificate=certificate)


def _now() -> datetime:
    return datetime.now(UTC)

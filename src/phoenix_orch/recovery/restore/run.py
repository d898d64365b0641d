"""Carry out a restore of a Redis: nothing is lost on the way, and what fails is put back.

    preflight again → safety copy, published and opened → the copy proven in a throw-away server
    → the target takes it → counted, replicas awaited → done; else the safety copy goes back

Every step is written down before it begins. After a death `run` with the same plan goes on: what was proven
stays proven, the target is made a primary and takes the copy anew; where the safety copy was going back, it
goes back.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from phoenix_orch.kernel.errors import BadState, Outdated, PhoenixError, Terminal
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.kernel.text import counted
from phoenix_orch.recovery.catalog import Backup
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.keys import Identity
from phoenix_orch.recovery.manifest import Level, Manifest
from phoenix_orch.recovery.objects import ObjectStore, Writer
from phoenix_orch.recovery.pipeline import unseal
from phoenix_orch.recovery.publish import Published
from phoenix_orch.recovery.rdb_load import DumpLoad
from phoenix_orch.recovery.rdb_values import UnknownKindError
from phoenix_orch.recovery.rdb_walked import DumpWalk
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.redis_asking import asking
from phoenix_orch.recovery.restore.claim import Check, claimed
from phoenix_orch.recovery.restore.journal import ENDED, TOUCHED, Entry, Journal, State
from phoenix_orch.recovery.restore.pace import Pace
from phoenix_orch.recovery.restore.plan import UNREHEARSED, RestorePlan, copy_of, planned
from phoenix_orch.recovery.restore.redis_preflight import Finding, Weight, preflight
from phoenix_orch.recovery.restore.redis_target import (
    Listen,
    Loaded,
    NotLoadedError,
    NotReleasedError,
    alone,
    load,
    target_of,
)
from phoenix_orch.recovery.restore.replication_check import check
from phoenix_orch.recovery.server_program import unrehearsable
from phoenix_orch.recovery.verifying import Verifier, expected

Find = Callable[[str], Backup]
"""A backup by its id. Raises NotFound."""
Tell = Callable[[str], None]
_GOES_BACK = "; the safety copy goes back"


@dataclass(frozen=True, slots=True)
class Restorer:
    """Restores copies of one storage into one server at a time. Everything blocks."""

    store: ObjectStore
    identities: Sequence[Identity]
    verifier: Verifier
    find: Find
    journal: Journal
    now: Callable[[], datetime]
    keep_safe: Callable[[RedisAddress], Published] | None = None
    """Publishes a copy of the target. None: nothing can be published here."""
    listen: Listen = field(default_factory=Listen)
    servers: Sequence[Path] = ()
    """Programs that load copies for a rehearsal which the package's Valkey does not read."""
    load_within: float = 3600.0
    """Seconds for the target to load what it was sent."""
    replicas_within: float = 180.0
    """Seconds for the replicas to have loaded everything anew."""
    tell: Tell = lambda _: None

    def plan(self, backup: Backup, target: RedisAddress, *, dead: bool = False) -> RestorePlan:
        """Look at both, change nothing, and write down what would be done.

        `dead`: what the target holds is not worth a copy. Raises PhoenixError.
        """
        plan = self._planned(sortable_id(self.now()), backup, target, safety=not dead)
        self.journal.write(Entry(plan=plan))
        return plan

    def look(self, entry: Entry, target: RedisAddress) -> RestorePlan:
        """What `run` looks at before it changes anything. Raises PhoenixError."""
        backup = self.find(entry.plan.backup)
        return self._planned(entry.plan.id, backup, target, safety=entry.plan.safety)

    def run(self, name: str, target: RedisAddress, confirmed: str) -> Entry:
        """Do what the plan says. Raises PhoenixError, after the target has its old data again or still."""
        with self.journal.held(name):
            entry = self.journal.read(name)
            self.confirmed(entry, target, confirmed)
            with self._alone_at(entry), self.claim(entry.plan.id, [entry.plan.run_id]) as check:
                return self._run(entry, target, check)

    def claim(self, name: str, run_ids: Sequence[str]) -> AbstractContextManager[Check]:
        """Keep restores on other machines away from these servers while the block runs. Raises BadState."""
        return claimed(self.store, run_ids, f"{platform.node()}/{name}", self.tell)

    def _run(self, entry: Entry, target: RedisAddress, check_claim: Check) -> Entry:
        resumed = entry.state in TOUCHED
        if resumed:
            self.tell(f"an earlier run ended while it was {entry.state.value}; the target is released")
            alone(target)
        if entry.state is State.RETURNING:
            self._returned(entry, target, entry.message.removesuffix(_GOES_BACK))
            raise Terminal(
                f"the restore had failed; {target} has its old data again",
                remedy=f"see why: phoenix restore status {entry.plan.id}; then plan anew",
            )
        backup = self.find(entry.plan.backup)
        self._holds(entry, backup, target)
        try:
            entry = self._safe(entry, target)
            entry = self._staged(entry, backup)
        except PhoenixError as error:
            if entry.state not in TOUCHED:
                self.end(entry, State.FAILED, error.message)
            raise
        check_claim()
        return self._cut(entry, backup, target, check_claim, resumed=resumed)

    def abort(self, name: str, target: RedisAddress) -> Entry:
        """End a restore that nobody is at: the target is a primary again, with what it holds."""
        with self.journal.held(name):
            entry = self.journal.read(name)
            if entry.state in ENDED:
                raise BadState(f"restore {name} is {entry.state.value}", remedy="there is nothing to abort")
            held = "nothing was changed"
            if entry.state in TOUCHED:
                found = alone(target)
                held = f"{target} is a primary and holds {counted(found.keys, 'key')}"
                if entry.safety:
                    held += f"; copy {entry.safety} has what it held before"
            return self.end(entry, State.ABORTED, held)

    def _alone_at(self, entry: Entry) -> AbstractContextManager[None]:
        """Of two plans for one server one at a time: what one has loaded the other would take back."""
        return self.journal.held(f"server-{entry.plan.run_id}", f"a restore into {entry.plan.target}")

    # -- steps ---------------------------------------------------------------------------------------

    def _planned(self, name: str, backup: Backup, target: RedisAddress, *, safety: bool) -> RestorePlan:
        with asking(target) as client:
            found = target_of(client)
        if found.tls_replication and (shown := self.listen.certificate) is not None:
            shown.context()
            authority = target.tls.ca_file if target.tls is not None else None
            distrust = shown.distrust(authority) if authority is not None else None
            found = replace(found, certificate=str(shown.file), distrust=distrust)
        looks = (*preflight(copy_of(backup.manifest), found), *self._rehearsable(backup.manifest))
        return planned(
            name,
            self.now(),
            backup.manifest,
            backup.sha256,
            target=str(target),
            found=found.facts,
            looks=looks,
            safety=safety,
        )

    def _rehearsable(self, manifest: Manifest) -> Iterator[Finding]:
        """Only where it is not."""
        if why := unrehearsable(manifest, self.servers, "--rehearsal-server FILE"):
            yield Finding(
                UNREHEARSED, Weight.WARNS, f"{why}; until then it is walked through", "plan anew with it"
            )

    def confirmed(self, entry: Entry, target: RedisAddress, confirmed: str) -> None:
        """It is this plan, for this target, and was not carried out yet. Raises BadState."""
        plan = entry.plan
        if entry.state in ENDED:
            raise BadState(f"restore {plan.id} is {entry.state.value}", remedy="make a new plan")
        if str(target) != plan.target:
            raise BadState(f"the plan is for {plan.target}, not for {target}", remedy="make a new plan")
        if confirmed != plan.hash:
            raise BadState(
                f"{confirmed!r} is not the hash of plan {plan.id}",
                remedy=f"read it (phoenix restore status {plan.id}), then type --confirm {plan.hash}",
            )

    def _holds(self, entry: Entry, backup: Backup, target: RedisAddress) -> None:
        """What was planned is what there is. Once a cut-over began, only the copy has to be the same."""
        if entry.state in TOUCHED:
            if backup.sha256 != entry.plan.manifest:
                raise Outdated("the copy is another than was planned", remedy="abort it, and plan anew")
            return
        now = self._planned(entry.plan.id, backup, target, safety=entry.plan.safety)
        if now.blocked:
            first = now.blocked[0]
            raise BadState(f"the target cannot take it: {first.found}", remedy=first.remedy)
        same = now.model_copy(update={"safety": entry.plan.safety})
        if same.hash != entry.plan.hash:
            raise Outdated(
                "the server or the copy is another than when the plan was made",
                remedy="plan anew: phoenix restore plan",
            )
        if now.target_keys and not entry.plan.safety and not entry.plan.target_keys:
            raise Outdated(
                f"{target} was empty, and now holds {counted(now.target_keys, 'key')}", remedy="plan anew"
            )

    def _safe(self, entry: Entry, target: RedisAddress) -> Entry:
        if not entry.plan.safety or entry.safety:
            return entry
        if self.keep_safe is None:
            raise BadState(
                "no safety copy can be published from here",
                remedy="run it where backups are configured, or plan with --target-is-dead",
            )
        entry = self.step(entry, State.COPYING, f"the data of {target} is being copied")
        made = self.keep_safe(target)
        if not made.look.passed or made.look.level < Level.OPENED:
            raise Terminal(
                f"the safety copy {made.manifest.id} was not opened and compared",
                remedy="name the private key, so that it can be",
            )
        update = {"safety": made.manifest.id, "safety_manifest": made.sha256}
        return self.step(
            entry.model_copy(update=update), entry.state, f"safety copy {made.manifest.id} is verified"
        )

    def _staged(self, entry: Entry, backup: Backup) -> Entry:
        """Prove the copy where it can do no harm."""
        if entry.digest:
            return entry
        if unrehearsable(backup.manifest, self.servers):
            return self._walked(entry, backup)
        entry = self.step(entry, State.STAGING, f"copy {backup.id} is being loaded for a rehearsal")
        rehearsal = DumpLoad(self.servers)
        pace = Pace(self.tell, "rehearsal", backup.manifest.stream.raw_bytes)
        look = self.verifier.look(
            backup.manifest, backup.sha256, Level.LOADED, structural=rehearsal, progress=pace
        )
        if not look.passed or rehearsal.result is None:
            raise Corrupted(
                f"copy {backup.id} does not hold: {look.detail}", remedy="choose another: phoenix backup list"
            )
        found = rehearsal.result
        update = {"digest": found.digest, "loaded": found.loaded.loaded + found.loaded.expired}
        return self.step(entry.model_copy(update=update), entry.state, look.detail)

    def _walked(self, entry: Entry, backup: Backup) -> Entry:
        """Prove a copy that no server here can load: its content holds, and every value in it has its end."""
        format_ = backup.manifest.engine.get("format")
        entry = self.step(
            entry,
            State.STAGING,
            f"no server here loads {format_}: copy {backup.id} is walked through instead",
        )
        walking = DumpWalk()
        look_at = functools.partial(self.verifier.look, backup.manifest, backup.sha256)
        try:
            look = look_at(Level.STRUCTURE, structural=walking)
        except UnknownKindError as error:
            self.tell(f"{error.message}: it is opened and compared, and its keys are not counted")
            look = look_at(Level.OPENED)
        if not look.passed:
            raise Corrupted(
                f"copy {backup.id} does not hold: {look.detail}", remedy="choose another: phoenix backup list"
            )
        keys = walking.counts.keys if walking.counts is not None else None
        update = {"digest": backup.manifest.stream.raw_sha256, "loaded": keys}
        return self.step(entry.model_copy(update=update), entry.state, look.detail)

    def _cut(
        self, entry: Entry, backup: Backup, target: RedisAddress, check_claim: Check, *, resumed: bool
    ) -> Entry:
        """`resumed`: an earlier run may have changed the target, so that what fails is put back."""
        entry = self.step(entry, State.CUTTING, f"{target} takes the copy")
        sent = resumed
        try:
            done = self._load(backup.manifest, target, check_claim)
            sent = True
            entry = self.step(
                entry,
                State.CHECKING,
                f"{target} loaded {counted(done.loaded, 'key')} in {done.seconds:.1f} s",
            )
            self._counted(entry, done)
            for said in check(target, entry.plan.replicas, within=self.replicas_within):
                entry = self.step(entry, State.CHECKING, said.words)
                if not said.good:
                    raise Terminal(f"after the restore: {said.words}", remedy="see the logs of the replicas")
        except NotReleasedError as error:
            self.step(entry, State.CUTTING, error.message)  # not its end: the same again releases it first
            raise
        except PhoenixError as error:
            return self._back(entry, target, error, sent=sent)
        return self.end(
            entry, State.DONE, f"{target} has the data of {entry.plan.consistency_point:%F %T} UTC"
        )

    def _load(self, manifest: Manifest, target: RedisAddress, check_claim: Check = lambda: None) -> Loaded:
        with self.store.reader(manifest.stream.key) as reader:
            pace = Pace(self.tell, f"{target} takes the copy", manifest.stream.raw_bytes)

            def pour(sink: Writer) -> None:
                unseal(reader, sink, self.identities, expected(manifest), progress=pace)
                check_claim()  # nothing is the target's data before this has returned

            return load(target, pour, listen=self.listen, load_within=self.load_within, tell=self.tell)

    def _counted(self, entry: Entry, done: Loaded) -> None:
        if entry.loaded is not None and done.missing(entry.loaded):
            raise Terminal(
                f"the target loaded {counted(done.loaded, 'key')} and the rehearsal {entry.loaded:,}",
                remedy="see the log of the target",
            )

    def _back(self, entry: Entry, target: RedisAddress, error: PhoenixError, *, sent: bool) -> Entry:
        """Raise the error when the target has its old data: still, or again."""
        if not sent and not isinstance(error, NotLoadedError):
            self.end(entry, State.FAILED, f"{error.message}; the target was not changed")
            raise error
        if not entry.safety:
            self.end(entry, State.FAILED, f"{error.message}; there is no safety copy to go back to")
            raise error
        entry = self.step(entry, State.RETURNING, f"{error.message}{_GOES_BACK}")
        self._returned(entry, target, error.message)
        raise error

    def _returned(self, entry: Entry, target: RedisAddress, why: str) -> None:
        """The target has its old data again. What this raises leaves it to be done once more."""
        safety = self.find(entry.safety)
        self._load(safety.manifest, target)
        self.end(entry, State.UNDONE, f"{why}; {target} has its old data again")

    def step(self, entry: Entry, state: State, words: str) -> Entry:
        self.tell(words)
        return self.journal.write(
            entry.model_copy(update={"state": state, "message": words, "told": (*entry.told, words)})
        )

    def end(self, entry: Entry, state: State, words: str) -> Entry:
        return self.step(entry, state, words)

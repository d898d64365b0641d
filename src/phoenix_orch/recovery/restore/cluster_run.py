"""Carry out a restore of a cluster, or of copies of shards: key by key, at the primary of each slot.

    preflight again → safety copies of every primary → the copies opened, walked through and counted
    → what is in no copy removed, every key put → every key looked for, replicas awaited → done; else back

A node of a cluster follows only nodes of it, so that no dump can be given to it whole. Each key is old or new
at any moment, all of them together are not. Every step can be done once more: after a death `run` with the
same plan begins again behind the safety copies; where those were going back, they go back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from redis.exceptions import ResponseError

from phoenix_orch.kernel.errors import BadState, Outdated, PhoenixError, Terminal
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.recovery.manifest import Level
from phoenix_orch.recovery.publish import Published
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.redis_asking import asking, facts
from phoenix_orch.recovery.restore.claim import Check
from phoenix_orch.recovery.restore.cluster_preflight import Node, preflight
from phoenix_orch.recovery.restore.cluster_put import key_set, looked_for, put
from phoenix_orch.recovery.restore.copies import Taken, slots_in
from phoenix_orch.recovery.restore.copy_keys import Copies
from phoenix_orch.recovery.restore.journal import ENDED, TOUCHED, Entry, State
from phoenix_orch.recovery.restore.key_set import KeySet
from phoenix_orch.recovery.restore.plan import Look, PlannedCopy, PlannedNode, RestorePlan
from phoenix_orch.recovery.restore.replication_check import check
from phoenix_orch.recovery.restore.run import Restorer
from phoenix_orch.recovery.restore.slot_owners import Owner, owners_of
from phoenix_orch.recovery.signing import canonical, digest

KeepSafe = Callable[[Owner, int], Published]
"""Publishes a copy of a primary, by its number."""


@dataclass(frozen=True, slots=True)
class ClusterRestorer:
    """Restores copies of one storage into the primaries of one cluster. Everything blocks."""

    base: Restorer
    keep_safe: KeepSafe

    def plan(self, taken: Sequence[Taken], target: RedisAddress, *, dead: bool = False) -> RestorePlan:
        """Look, change nothing, and write down what would be done. Raises PhoenixError."""
        plan = _planned(sortable_id(self.base.now()), self.base.now(), taken, target, safety=not dead)
        self.base.journal.write(Entry(plan=plan))
        return plan

    def look(self, entry: Entry, target: RedisAddress) -> RestorePlan:
        """What `run` looks at before it changes anything. Raises PhoenixError."""
        taken = self._taken(entry.plan)
        return _planned(entry.plan.id, entry.plan.made, taken, target, safety=entry.plan.safety)

    def run(self, name: str, target: RedisAddress, confirmed: str) -> Entry:
        """Do what the plan says. Raises PhoenixError, after the target has its old data again or still."""
        base = self.base
        with contextlib.ExitStack() as stack:
            stack.enter_context(base.journal.held(name))
            entry = base.journal.read(name)
            base.confirmed(entry, target, confirmed)
            ids = [one.run_id for one in entry.plan.nodes]
            for one in sorted(ids):
                what = f"a restore into {entry.plan.target}"
                stack.enter_context(base.journal.held(f"server-{one}", what))
            check_claim = stack.enter_context(base.claim(entry.plan.id, ids))
            return self._run(entry, target, check_claim)

    def abort(self, name: str) -> Entry:
        """End a restore that nobody is at. The target serves what it holds."""
        with self.base.journal.held(name):
            entry = self.base.journal.read(name)
            if entry.state in ENDED:
                raise BadState(f"restore {name} is {entry.state.value}", remedy="there is nothing to abort")
            held = "nothing was changed"
            if entry.state in TOUCHED:
                held = f"{entry.plan.target} holds old and new keys"
                held += f"; copies {entry.safety} have what it held before" if entry.safety else ""
            return self.base.end(entry, State.ABORTED, held)

    # -- steps ---------------------------------------------------------------------------------------

    def _run(self, entry: Entry, target: RedisAddress, check_claim: Check) -> Entry:
        base = self.base
        if entry.state is State.RETURNING:
            self._returned(entry, target, entry.message)
            raise Terminal(
                f"the restore had failed; {target} has its old data again",
                remedy=f"see why: phoenix restore status {entry.plan.id}; then plan anew",
            )
        taken = self._taken(entry.plan)
        begun = entry.state in TOUCHED
        try:
            if not begun:
                self._holds(entry, taken, target)
            entry = self._safe(entry, target)
            entry = base.step(entry, entry.state if begun else State.STAGING, "the copies are walked through")
            copies = Copies(base.store, base.identities, taken)
            wanted = key_set(copies)
            words = f"{len(wanted):,} keys are in {len(taken)} copies, {wanted.expired:,} more are expired"
            entry = base.step(entry.model_copy(update={"loaded": len(wanted)}), entry.state, words)
            check_claim()
        except PhoenixError as error:
            if entry.state not in TOUCHED:
                base.end(entry, State.FAILED, error.message)
            raise
        return self._cut(entry, copies, wanted, target)

    def _cut(self, entry: Entry, copies: Copies, wanted: KeySet, target: RedisAddress) -> Entry:
        base = self.base
        entry = base.step(entry, State.CUTTING, f"{target} takes the keys")
        try:
            for words in put(copies, wanted, owners_of(target), base.tell):
                entry = base.step(entry, State.CUTTING, words)
            entry = base.step(entry, State.CHECKING, "every key is looked for")
            looked_for(copies, wanted, owners_of(target))
            for owner, node in zip(owners_of(target), entry.plan.nodes, strict=True):
                for said in check(
                    owner.address, node.replicas, within=base.replicas_within, slots=owner.slots
                ):
                    entry = base.step(entry, State.CHECKING, said.words)
                    if not said.good:
                        raise Terminal(
                            f"after the restore: {said.words}", remedy="see the logs of the replicas"
                        )
        except (PhoenixError, ValueError) as error:
            told = error if isinstance(error, PhoenixError) else Terminal("the cluster has changed meanwhile")
            return self._back(entry, target, told)
        return base.end(entry, State.DONE, f"{target} has the {len(wanted):,} keys of the copies")

    def _back(self, entry: Entry, target: RedisAddress, error: PhoenixError) -> Entry:
        if not entry.safety:
            self.base.end(entry, State.FAILED, f"{error.message}; there is no safety copy to go back to")
            raise error
        entry = self.base.step(entry, State.RETURNING, f"{error.message}; the safety copies go back")
        self._returned(entry, target, error.message)
        raise error

    def _returned(self, entry: Entry, target: RedisAddress, why: str) -> None:
        """The slots have their old keys again. What this raises leaves it to be done once more."""
        base, slots = self.base, entry.plan.copies
        scope = tuple(span for one in slots for span in one.slots)
        safeties = [base.find(name) for name in entry.safety.split(",")]
        taken = [Taken(one, slots_in(one)) for one in safeties]
        copies = Copies(base.store, base.identities, [one for one in taken if one.slots])
        for words in put(copies, key_set(copies), owners_of(target), base.tell, scope):
            base.tell(words)
        base.end(entry, State.UNDONE, f"{why}; {target} has its old data again")

    def _safe(self, entry: Entry, target: RedisAddress) -> Entry:
        if not entry.plan.safety or entry.safety:
            return entry
        base = self.base
        entry = base.step(entry, State.COPYING, f"the data of {target} is being copied")
        made = []
        for number, owner in enumerate(owners_of(target)):
            published = self.keep_safe(owner, number)
            if not published.look.passed or published.look.level < Level.OPENED:
                raise Terminal(
                    f"the safety copy {published.manifest.id} was not opened and compared",
                    remedy="name the private key, so that it can be",
                )
            made.append(published.manifest.id)
            base.tell(f"safety copy {published.manifest.id} of {owner.address} is verified")
        update = {"safety": ",".join(made)}
        return base.step(
            entry.model_copy(update=update), entry.state, f"{len(made)} safety copies are verified"
        )

    def _taken(self, plan: RestorePlan) -> list[Taken]:
        """Raises Outdated for a copy that is another than was planned."""
        found = [Taken(self.base.find(one.backup), one.slots) for one in plan.copies]
        if any(
            one.backup.sha256 != planned.manifest for one, planned in zip(found, plan.copies, strict=True)
        ):
            raise Outdated("a copy is another than was planned", remedy="plan anew")
        return found

    def _holds(self, entry: Entry, taken: Sequence[Taken], target: RedisAddress) -> RestorePlan:
        plan = entry.plan
        now = _planned(plan.id, plan.made, taken, target, safety=plan.safety)
        if now.blocked:
            first = now.blocked[0]
            raise BadState(f"the target cannot take it: {first.found}", remedy=first.remedy)
        if now.model_copy(update={"safety": plan.safety}).hash != plan.hash:
            raise Outdated(
                "the cluster is another than when the plan was made", remedy="plan anew: phoenix restore plan"
            )
        if now.target_keys and not plan.safety and not plan.target_keys:
            raise Outdated(f"{target} was empty, and now holds {now.target_keys:,} keys", remedy="plan anew")
        return now


def _planned(
    name: str, now: datetime, taken: Sequence[Taken], target: RedisAddress, *, safety: bool
) -> RestorePlan:
    nodes = [_node(one) for one in owners_of(target)]
    looks = preflight(taken, nodes)
    manifests = [one.backup.manifest for one in taken]
    counts = [keys if isinstance(keys := one.content.get("keys"), int) else None for one in manifests]
    held = sum(one.facts.keys for one in nodes)
    return RestorePlan(
        id=name,
        made=now,
        backup=",".join(one.id for one in manifests),
        manifest=digest(canonical({"copies": [[one.backup.sha256, list(one.slots)] for one in taken]})),
        component=_common(manifests[0].component, len(taken)),
        consistency_point=min(one.time.consistency_point for one in manifests),
        raw_bytes=sum(one.stream.raw_bytes for one in manifests),
        raw_sha256=digest(canonical({"raw": [one.stream.raw_sha256 for one in manifests]})),
        keys=sum(one for one in counts if one is not None) if None not in counts else None,
        target=str(target),
        run_id=digest(canonical({"nodes": [[one.facts.run_id, list(one.owner.slots)] for one in nodes]})),
        target_keys=held,
        replicas=sum(len(one.facts.replicas) for one in nodes),
        safety=safety and held > 0,
        looks=tuple(Look(check=f.check, weight=f.weight, found=f.found, remedy=f.remedy) for f in looks),
        copies=tuple(
            PlannedCopy(
                backup=one.backup.id,
                component=one.backup.manifest.component,
                manifest=one.backup.sha256,
                slots=one.slots,
                consistency_point=one.backup.manifest.time.consistency_point,
            )
            for one in taken
        ),
        nodes=tuple(
            PlannedNode(
                address=str(one.owner.address),
                run_id=one.facts.run_id,
                slots=one.owner.slots,
                keys=one.facts.keys,
                replicas=len(one.facts.replicas),
            )
            for one in nodes
        ),
    )


def _common(component: str, count: int) -> str:
    return component.rpartition(".shard")[0] or component if count > 1 else component


def _node(owner: Owner) -> Node:
    with asking(owner.address) as client:
        found = facts(client)
        databases, moving = 1 if owner.cluster else 1_000_000, 0
        with contextlib.suppress(ResponseError):
            name = "cluster-databases" if owner.cluster else "databases"
            databases = int(client.config_get(name).get(name) or databases)
        if owner.cluster:
            told = client.execute_command("CLUSTER", "NODES")  # type: ignore[no-untyped-call]
            lines = told.values() if isinstance(told, dict) else ()
            moving = sum(len(one.get("migrations", ())) for one in lines)
    return Node(owner, found, databases, moving)

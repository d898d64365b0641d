"""A restore of a claim by a person, with their own rights: from a backup, or from its description alone.

    snapshot → a claim beside → a Job looks at it → exchanged with the one that is there, which is kept

What has to be known to go on after a death is in the cluster, so that it can be done from anywhere.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from phoenix_orch.kernel.errors import BadState, NotFound, Outdated, Retryable
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.resources import Object
from phoenix_orch.orchestrator.backups import Backups
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.recovery.catalog import Backup
from phoenix_orch.recovery.consistency_spec import FileCheck
from phoenix_orch.recovery.restore import exchange_plan, volume_abort
from phoenix_orch.recovery.restore.exchange_plan import Exchange
from phoenix_orch.recovery.restore.state_job import StateJobs
from phoenix_orch.recovery.restore.volume_abort import Begun, VolumeAbort
from phoenix_orch.recovery.restore.volume_exchange import Step, VolumeExchange
from phoenix_orch.recovery.restore.volume_manifest import job_of
from phoenix_orch.recovery.signing import canonical
from phoenix_orch.recovery.sources.claim_spec import StateCheck
from phoenix_orch.recovery.sources.snapshot_plan import (
    CLAIMS,
    OURS,
    SNAPSHOTS,
    Taken,
    claim_from,
    read_back,
)
from phoenix_orch.recovery.sources.snapshots import SnapshotKeeper
from phoenix_orch.rollout.spec import Model

T = TypeVar("T")
HASH = 10
"""Characters of the hash that a person types."""
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be put back, and where."""

    one: Taken
    backup: str
    """Its id; by it the objects of the restore are named."""
    namespace: str
    check: StateCheck
    checks: Sequence[FileCheck]

    @property
    def beside(self) -> str:
        """The claim that is made first."""
        return volume_abort.beside(self.one.claim, self.backup)


class VolumePlan(Model):
    """What a restore of a claim would do."""

    backup: str
    as_of: str
    """When the storage took the snapshot."""
    namespace: str
    claim: str
    size: int
    """Bytes of the new volume, at least."""
    old_volume: str
    """The PersistentVolume that the claim has now, and that is kept; empty: the claim is lost."""
    stopped: tuple[str, ...]
    """Workloads that have no pods meanwhile."""
    snapshot: str
    """Where it is found."""
    begun: bool
    """It was confirmed before, and died: it goes on."""
    hash: str
    """To confirm it."""

    @property
    def steps(self) -> tuple[str, ...]:
        """In words, in their order."""
        kept = f"; {self.old_volume} is kept" if self.old_volume else ""
        stopped = f"{', '.join(self.stopped)} end" if self.stopped else "nothing has to end"
        return (
            f"a claim beside it is made of the snapshot ({self.snapshot}), and a Job looks at it",
            f"{stopped}; until then nothing that is used has changed",
            f"{self.claim} is bound to the restored volume{kept}",
        )


class VolumeRestored(Model):
    """What a restore of a claim has done."""

    backup: str
    namespace: str
    claim: str
    volume: str
    """That it is bound to now."""
    old_volume: str
    kept_until: str
    seen: str
    """What the Job has said."""
    stopped: tuple[str, ...]


def of_backup(backups: Backups, backup: Backup, namespace: str | None) -> Wanted:
    """Raises Corrupted, WrongKey, Invalid."""
    text = io.BytesIO()
    backups.cat(backup, text)
    one = read_back(text.getvalue())
    spec = getattr(backups.spec, "claims", {}).get(_instance(backup.manifest.component))
    check, checks = (spec.verify, spec.checks) if spec is not None else (StateCheck(), ())
    return Wanted(one, backup.id, namespace or one.namespace, check, checks)


def plan(wanted: Wanted, access: Access) -> VolumePlan:
    """Looks, and changes nothing. Raises BadState for what cannot be done, Forbidden, Retryable."""
    return _ran(access, wanted.namespace, lambda client: _planned(client, wanted))


def confirmed_plan(wanted: Wanted, access: Access, confirmed: str) -> VolumePlan:
    """As `plan`, of what was confirmed. Raises Outdated where it is another one by now."""
    found = plan(wanted, access)
    _refuse_outdated(found, confirmed)
    return found


def run(
    wanted: Wanted,
    access: Access,
    confirmed: str,
    *,
    within: timedelta,
    keep_until: datetime,
    tell: Tell = lambda _: None,
    around: Callable[[VolumePlan], AbstractContextManager[dict[str, Any]]] = lambda _: nullcontext({}),
    told: Callable[[Step], None] = lambda _: None,
) -> VolumeRestored:
    """Or go on with it. `around`: entered with what is done, before anything is. `within`: pods have so long
    to end. Raises Outdated where the plan is another one than was confirmed, and what the steps raise."""

    async def act(client: KubeClient) -> VolumeRestored:
        found = await _planned(client, wanted)
        _refuse_outdated(found, confirmed)
        with around(found) as done, _going_on(wanted.namespace, found.claim, wanted.backup):
            exchange = VolumeExchange(client, wanted.namespace, timeout=within, told=told)
            ended = await _Acting(client, wanted, exchange, tell).run(found, keep_until)
            done.update(ended.model_dump(mode="json", by_alias=True))
        return ended

    return _ran(access, wanted.namespace, act)


def back(
    claim: str,
    volume: str,
    access: Access,
    namespace: str,
    *,
    within: timedelta,
    keep_until: datetime,
    dry_run: bool = False,
    around: Callable[[Exchange], AbstractContextManager[dict[str, Any]]] = lambda _: nullcontext({}),
) -> Exchange:
    """Put a volume that is kept under its claim again: the way back. `dry_run`: only tell what would be
    exchanged. Raises BadState where a claim has it."""

    async def act(client: KubeClient) -> Exchange:
        exchange = VolumeExchange(client, namespace, timeout=within)
        begun = await exchange.begun(claim)
        if begun is not None and begun.volume != volume:
            raise _other(begun)
        one = begun or await exchange.planned(claim, volume)
        if dry_run:
            return one
        with around(one) as done, _going_on(namespace, claim, ""):
            await exchange.run(one, keep_until)
            await exchange.end(one)
            done.update(claim=claim, volume=volume, kept=one.old_volume)
        return one

    return _ran(access, namespace, act)


def abort(
    claim: str,
    backup: str,
    access: Access,
    namespace: str,
    *,
    within: timedelta,
    keep_until: datetime,
    around: Callable[[Begun], AbstractContextManager[dict[str, Any]]] = lambda _: nullcontext({}),
) -> Begun:
    """End a restore into a claim, or a way back, that died while the claim has its old volume. `backup`: its
    id; empty: of what is noted. `keep_until`: as in VolumeAbort. Raises NotFound where nothing is begun,
    BadState where the old claim is gone: then the restore is to be ended."""

    async def act(client: KubeClient) -> Begun:
        aborting = VolumeAbort(client, namespace, timeout=within)
        begun = await aborting.begun(claim, backup)
        with around(begun) as done:
            await aborting.run(begun, keep_until)
            old = begun.exchange.old_volume if begun.exchange is not None else ""
            done.update(claim=claim, backup=begun.backup, volume=old)
        return begun

    return _ran(access, namespace, act)


class _Acting:
    """One restore."""

    def __init__(self, client: KubeClient, wanted: Wanted, exchange: VolumeExchange, tell: Tell) -> None:
        self._client = client
        self._wanted = wanted
        self._exchange = exchange
        self._tell = tell
        self._keeper = SnapshotKeeper(client)

    async def run(self, found: VolumePlan, keep_until: datetime) -> VolumeRestored:
        wanted, seen = self._wanted, ""
        one = await self._exchange.begun(found.claim)
        if one is None:
            seen = await self._verified()
            made = await self._client.get(CLAIMS, wanted.beside, wanted.namespace)
            volume = str(made["spec"]["volumeName"])
            one = await self._exchange.planned(
                found.claim,
                volume,
                through=wanted.beside,
                labels=wanted.one.labels,
                plan=found.hash,
                backup=wanted.backup,
            )
        # its pod has ended, and keeps the claim beside from going as long as it is there
        await StateJobs(self._client, wanted.namespace).removed(_job(wanted)["metadata"]["name"])
        self._tell(f"{found.claim} is exchanged: {', '.join(found.stopped) or 'nobody'} ends meanwhile")
        await self._exchange.run(one, keep_until)
        await self._keeper.given_back(wanted.one, wanted.namespace, wanted.backup)
        await self._exchange.end(one)
        return VolumeRestored(
            backup=wanted.backup,
            namespace=wanted.namespace,
            claim=found.claim,
            volume=one.volume,
            old_volume=one.old_volume,
            kept_until=keep_until.isoformat() if one.old_volume else "",
            seen=seen,
            stopped=found.stopped,
        )

    async def _verified(self) -> str:
        """A claim beside, with the data, which a Job has found whole. What is there is gone on with."""
        wanted = self._wanted
        self._tell(f"the snapshot is looked for: {wanted.one.handle}")
        snapshot = await self._keeper.found(wanted.one, wanted.namespace, wanted.backup)
        body = claim_from(wanted.one, snapshot, wanted.beside, wanted.namespace, wanted.backup)
        body["metadata"]["labels"] = {OURS: wanted.backup}  # by the others it would be backed up, too
        try:
            await self._client.get(CLAIMS, wanted.beside, wanted.namespace)
        except NotFound:
            await self._client.create(CLAIMS, body, wanted.namespace)
        self._tell(f"a Job looks at {wanted.beside}")
        said = await StateJobs(self._client, wanted.namespace).passed(_job(wanted))
        self._tell(f"it holds: {said}")
        return said


def _job(wanted: Wanted) -> Object:
    return job_of(wanted.beside, wanted.namespace, wanted.backup, wanted.check, wanted.checks)


async def _planned(client: KubeClient, wanted: Wanted) -> VolumePlan:
    one, exchange = wanted.one, VolumeExchange(client, wanted.namespace, timeout=timedelta(0))
    begun = await exchange.begun(one.claim)
    if begun is not None and begun.through != wanted.beside:
        raise _other(begun)
    users = await exchange.users(one.claim)
    for user in users:
        exchange_plan.refuse_deleting(user)
    await exchange.refuse_ended(one.claim)
    old = await _or_none(client.get(CLAIMS, one.claim, wanted.namespace))
    mode = (old or {}).get("spec", {}).get("volumeMode", one.volume_mode)
    if mode != one.volume_mode:
        raise BadState(
            f"{one.claim} is a volume of {mode}, and the snapshot is of {one.volume_mode}",
            remedy="name another namespace with -n, where the claim is not",
        )
    names = tuple(sorted(f"{user['kind']} {user['metadata']['name']}" for user in users))
    volume = begun.old_volume if begun else str((old or {}).get("spec", {}).get("volumeName") or "")
    here = one.namespace == wanted.namespace and await _or_none(
        client.get(SNAPSHOTS, one.snapshot, wanted.namespace)
    )
    told = {
        "backup": wanted.backup,
        "handle": one.handle,
        "namespace": wanted.namespace,
        "claim": one.claim,
        "uid": (old or {}).get("metadata", {}).get("uid"),
        "users": list(names),
    }
    return VolumePlan(
        backup=wanted.backup,
        as_of=one.created,
        namespace=wanted.namespace,
        claim=one.claim,
        size=max(one.size, one.restore_size),
        old_volume=volume,
        stopped=names,
        snapshot=f"VolumeSnapshot {one.snapshot}"
        if here
        else f"lost in the cluster; by its handle {one.handle}",
        begun=begun is not None,
        hash=begun.plan if begun is not None else hashlib.sha256(canonical(told)).hexdigest()[:HASH],
    )


@contextmanager
def _going_on(namespace: str, claim: str, backup: str) -> Iterator[None]:
    """What to do about a cluster that went away meanwhile: it may have gone between any two changes."""
    try:
        yield
    except Retryable as error:
        named = f"{backup} " if backup else ""
        error.remedy = (
            "when the cluster answers again give the same command: it goes on where it was; "
            f"or end it: phoenix restore abort {named}--claim {claim} -n {namespace}"
        )
        raise


def _refuse_outdated(found: VolumePlan, confirmed: str) -> None:
    if found.hash != confirmed:
        raise Outdated(
            f"the plan is {found.hash} by now, and {confirmed} was confirmed",
            remedy="look at it again: phoenix restore plan volume",
        )


def _other(begun: Exchange) -> BadState:
    return BadState(
        f"another volume, {begun.volume}, is being put under the claim {begun.claim}",
        remedy="complete that one first: give its command again",
    )


async def _or_none(asked: Awaitable[Object]) -> Object | None:
    try:
        return await asked
    except NotFound:
        return None


def _ran(access: Access, namespace: str, act: Callable[[KubeClient], Awaitable[T]]) -> T:
    async def acting() -> T:
        target = load(access.kubeconfig, context=access.context, namespace=namespace)
        async with KubeClient(target, component="person") as client:
            return await act(client)

    return asyncio.run(acting())


def _instance(component: str) -> str:
    return component.partition("/")[2].partition(".")[0]

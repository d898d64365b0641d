"""A person's words to a rollout in a cluster, with nothing but the API server: nothing of Phoenix need run.

An abort is one conditional write of the object that carries the weight, by the router alone; that the
Rollout hears of it comes beside it. Every other word is a command in the status of the Rollout, which the
orchestrator obeys.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from phoenix_orch.health_validator.observation import Verdict
from phoenix_orch.kernel.clock import RealClock
from phoenix_orch.kernel.errors import BadState, NotFound, PhoenixError
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.resources import ROLLOUTS, Object
from phoenix_orch.orchestrator.cluster.declared import Declared, Rollouts
from phoenix_orch.orchestrator.cluster.routing import ClusterRouter
from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.commands import refusal, remedy, typed
from phoenix_orch.rollout.kubernetes_status import VerdictSummary
from phoenix_orch.rollout.spec import Model
from phoenix_orch.rollout.status import Command, CommandKind, Event, State, Status, under_judgement
from phoenix_orch.rollout.store import kubernetes_record as record
from phoenix_orch.rollout.store.kubernetes import KubernetesStore
from phoenix_orch.rollout.store.memory import MemoryStore
from phoenix_orch.runtime.users import name_of

PATIENCE = 5.0
"""Seconds until a word is said not to be obeyed yet. A second process looks once a second."""
TELLING = 2.0
"""Seconds that the Rollout gets to hear of an abort that is written already."""
INTERVAL = 0.2


@dataclass(frozen=True, slots=True)
class Access:
    """Which cluster, as kubectl is told."""

    namespace: str | None = None
    kubeconfig: Path | None = None
    context: str | None = None


class AbortedInCluster(Model):
    """What an abort came to."""

    rollout: str
    revision: str
    stable: str = ""
    """The revision that gets all requests."""
    weight: int = 0
    """What the canary's Service gets of the requests now, in per cent."""
    recorded: bool = False
    """The Rollout has been told, with the reason."""
    dry_run: bool = False


def view(access: Access, name: str) -> RolloutView:
    """Where a rollout stands. Raises NotFound, Retryable."""
    return asyncio.run(_view(access, name))


def say(access: Access, name: str, kind: CommandKind, *, reason: str, step: int | None, dry_run: bool) -> str:
    """Say a word and wait a moment; what to tell where it is not obeyed by then, else nothing.

    Raises BadState where it makes no sense, now or when it was heard.
    """
    return asyncio.run(_say(access, name, _command(kind, reason, step), dry_run=dry_run))


def abort(access: Access, name: str, *, reason: str, dry_run: bool) -> AbortedInCluster:
    """Take all traffic from the revision under judgement and latch it.

    Raises BadState where there is none, NotFound, Retryable.
    """
    return asyncio.run(_abort(access, name, reason, dry_run=dry_run))


@dataclass(frozen=True, slots=True)
class _Reach:
    client: KubeClient
    found: Object
    one: Declared
    router: ClusterRouter
    store: KubernetesStore


@asynccontextmanager
async def _reached(access: Access, name: str) -> AsyncIterator[_Reach]:
    target = load(access.kubeconfig, context=access.context, namespace=access.namespace)
    async with KubeClient(target, component="person") as client:
        try:
            found = await client.urgent.get(ROLLOUTS, name)
        except NotFound:
            raise NotFound(
                f"there is no Rollout {name!r} in namespace {client.namespace}",
                remedy="kubectl get rollouts.phoenix-orch.io lists them",
            ) from None
        rollouts = Rollouts([found])
        yield _Reach(
            client=client,
            found=found,
            one=rollouts.named(name),
            router=ClusterRouter(client, client.namespace, rollouts),
            store=KubernetesStore(client, MemoryStore(), namespace=client.namespace, clock=RealClock()),
        )


async def _view(access: Access, name: str) -> RolloutView:
    async with _reached(access, name) as there:
        one, status = there.one, record.status_of(there.found)
        try:
            traffic = await there.router.read(one.rollout.route)
        except PhoenixError:
            traffic = None
        seen = await there.router.observe(one.rollout.route)
        return RolloutView(
            at=datetime.now(UTC),
            rollout=one.rollout,
            steps=one.rollout.spec.steps(),
            traffic=traffic,
            seen=seen.model_copy(update={"weight": status.weight_seen}),
            verdict=_verdict(status.verdict) if status.verdict is not None else None,
        )


def _verdict(short: VerdictSummary) -> Verdict:
    """Without its evidence, which is in the log."""
    return Verdict(**{name: getattr(short, name) for name in VerdictSummary.model_fields})


async def _say(access: Access, name: str, command: Command, *, dry_run: bool) -> str:
    async with _reached(access, name) as there:
        status = there.one.rollout.status
        if (why_not := refusal(status, command.kind, command.step)) is not None:
            raise BadState(
                f"cannot {typed(command.kind)} {name}: {why_not}", remedy=remedy(status, command.kind, name)
            )
        if dry_run:
            return ""
        await there.store.command(name, command)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = record.status_of(await there.client.get(ROLLOUTS, name))
            if command.id in found.handled:
                _check_obeyed(found.outbox.events, command, name)
                return ""
            await asyncio.sleep(INTERVAL)
    return "accepted, and not obeyed yet: look whether the orchestrator runs"


def _check_obeyed(events: tuple[Event, ...], command: Command, name: str) -> None:
    for event in events:
        kind, _, why = event.message.partition(": ")
        refused = event.reason == "CommandRefused" and event.at >= command.at
        if refused and kind == typed(command.kind):
            raise BadState(
                f"cannot {kind} {name}: {why}", remedy=f"kubectl describe rollouts.phoenix-orch.io {name}"
            )


async def _abort(access: Access, name: str, reason: str, *, dry_run: bool) -> AbortedInCluster:
    async with _reached(access, name) as there:
        rollout = there.one.rollout
        revision = taken_back(rollout.status)
        if revision is None:
            why = refusal(rollout.status, CommandKind.ABORT) or "there is no release to abort"
            raise BadState(
                f"cannot abort {name}: {why}", remedy=remedy(rollout.status, CommandKind.ABORT, name)
            )
        if dry_run:
            state = await there.router.read(rollout.route)
            return AbortedInCluster(
                rollout=name,
                revision=revision,
                stable=state.stable.revision,
                weight=state.weight,
                dry_run=True,
            )
        telling = asyncio.create_task(_tell(there.store, name, _command(CommandKind.ABORT, reason, None)))
        try:
            state = await there.router.abort(rollout.route, revision)
        finally:
            recorded = await telling
        return AbortedInCluster(
            rollout=name,
            revision=revision,
            stable=state.stable.revision,
            weight=state.weight,
            recorded=recorded,
        )


async def _tell(store: KubernetesStore, name: str, command: Command) -> bool:
    """Beside the abort: who and why. The latch holds without it."""
    try:
        async with asyncio.timeout(TELLING):
            await store.command(name, command)
    except (PhoenixError, TimeoutError):
        return False
    return True


def taken_back(status: Status) -> str | None:
    """The revision that an abort is about: also one that is being taken back already. Pure."""
    if (revision := under_judgement(status)) is not None:
        return revision
    return status.canary if status.state is State.ROLLING_BACK else None


def _command(kind: CommandKind, reason: str, step: int | None) -> Command:
    actor, now = name_of(os.getuid()), datetime.now(UTC)
    return Command(id=sortable_id(now), kind=kind, actor=actor, at=now, reason=reason, step=step)

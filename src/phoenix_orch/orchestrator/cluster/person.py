"""A person's words to a rollout in a cluster, with nothing but the API server: nothing of Phoenix need run.

An abort is one conditional write of the object that carries the weight, by the router alone; that the
Rollout hears of it comes beside it. Every other word is a command in the status of the Rollout, which the
orchestrator obeys.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from phoenix_orch.kernel.errors import BadState, PhoenixError
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.kube.resources import ROLLOUTS
from phoenix_orch.orchestrator.cluster.reach import Reach
from phoenix_orch.rollout.commands import refusal, remedy, typed
from phoenix_orch.rollout.spec import Model
from phoenix_orch.rollout.status import Command, CommandKind, Event, State, Status, under_judgement
from phoenix_orch.rollout.store import kubernetes_record as record
from phoenix_orch.rollout.store.kubernetes import KubernetesStore

PATIENCE = 5.0
"""Seconds until a word is said not to be obeyed yet. A second process looks once a second."""
TELLING = 2.0
"""Seconds that the Rollout gets to hear of an abort that is written already."""
INTERVAL = 0.2


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


async def say(
    there: Reach, name: str, kind: CommandKind, *, reason: str, step: int | None, dry_run: bool
) -> str:
    """Say a word and wait a moment; what to tell where it is not obeyed by then, else nothing.

    Raises BadState where it makes no sense, now or when it was heard.
    """
    command = word(there.actor, kind, reason, step)
    await give(there, name, command, dry_run=dry_run)
    if dry_run:
        return ""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        heard = record.status_of(await there.client.get(ROLLOUTS, name))
        if command.id in heard.handled:
            _check_obeyed(heard.outbox.events, command, name)
            return ""
        await asyncio.sleep(INTERVAL)
    return "accepted, and not obeyed yet: look whether the orchestrator runs"


async def give(there: Reach, name: str, command: Command, *, dry_run: bool = False) -> None:
    """Say what the orchestrator obeys at its next pass. Raises BadState where it makes no sense now."""
    found, kind = await there.rollout(name), command.kind
    status = found.one.rollout.status
    if (why_not := refusal(status, kind, command.step)) is not None:
        raise BadState(f"cannot {typed(kind)} {name}: {why_not}", remedy=remedy(status, kind, name))
    if not dry_run:
        await found.store.command(name, command)


def _check_obeyed(events: tuple[Event, ...], command: Command, name: str) -> None:
    for event in events:
        kind, _, why = event.message.partition(": ")
        refused = event.reason == "CommandRefused" and event.at >= command.at
        if refused and kind == typed(command.kind):
            raise BadState(
                f"cannot {kind} {name}: {why}", remedy=f"kubectl describe rollouts.phoenix-orch.io {name}"
            )


async def abort(there: Reach, name: str, *, reason: str, dry_run: bool) -> AbortedInCluster:
    """As `abort_by`, with a command of its own."""
    command = word(there.actor, CommandKind.ABORT, reason)
    return await abort_by(there, name, command, dry_run=dry_run)


async def abort_by(there: Reach, name: str, command: Command, *, dry_run: bool = False) -> AbortedInCluster:
    """Take all traffic from the revision under judgement and latch it; the Rollout is told the command.

    Raises BadState where there is none, NotFound, Retryable.
    """
    found = await there.rollout(name)
    rollout = found.one.rollout
    revision = taken_back(rollout.status)
    if revision is None:
        why = refusal(rollout.status, CommandKind.ABORT) or "there is no release to abort"
        raise BadState(f"cannot abort {name}: {why}", remedy=remedy(rollout.status, CommandKind.ABORT, name))
    recorded = False
    if dry_run:
        state = await found.router.read(rollout.route)
    else:
        telling = asyncio.create_task(_tell(found.store, name, command))
        try:
            state = await found.router.abort(rollout.route, revision)
        finally:
            recorded = await telling
    return AbortedInCluster(
        rollout=name,
        revision=revision,
        stable=state.stable.revision,
        weight=state.weight,
        recorded=recorded,
        dry_run=dry_run,
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


def word(actor: str, kind: CommandKind, reason: str, step: int | None = None) -> Command:
    """Somebody's word, said now."""
    now = datetime.now(UTC)
    return Command(id=sortable_id(now), kind=kind, actor=actor, at=now, reason=reason, step=step)

"""`phoenix rollout … --kubernetes`: past the API, on the objects of a cluster. Imported where it is used."""

from __future__ import annotations

from phoenix_orch.cli import following, pages
from phoenix_orch.cli.options import Output
from phoenix_orch.cli.output import emit
from phoenix_orch.cli.output import say as tell
from phoenix_orch.orchestrator.cluster import person
from phoenix_orch.orchestrator.cluster.person import AbortedInCluster, Access
from phoenix_orch.rollout.commands import typed
from phoenix_orch.rollout.status import CommandKind


def status(access: Access, name: str, output: Output) -> int:
    """As `phoenix rollout status`, of what the Rollout and the object with its weight say."""
    view = person.view(access, name)
    emit(output, view, pages.status(view), speed=view.speed)
    return following.exit_code(view)


def say(
    access: Access, name: str, kind: CommandKind, reason: str, done: str, *, step: int | None, dry_run: bool
) -> None:
    """A word, and what came of it."""
    waits = person.say(access, name, kind, reason=reason, step=step, dry_run=dry_run)
    tell(
        f"{typed(kind)} {name}: would be possible: {done}"
        if dry_run
        else f"{typed(kind)} {name}: {waits or done}"
    )


def abort(access: Access, name: str, reason: str, output: Output, *, dry_run: bool) -> None:
    """The latch and weight 0, written by the router alone."""
    taken = person.abort(access, name, reason=reason, dry_run=dry_run)
    emit(output, taken, aborted(taken))


def aborted(taken: AbortedInCluster) -> str:
    """For a person."""
    name, revision = taken.rollout, taken.revision
    if taken.dry_run:
        return (
            f"abort {name}: would be possible: it would abort revision {revision}, with weight {taken.weight}"
        )
    told = "" if taken.recorded else "\nthe Rollout could not be told; the latch holds without it"
    return (
        f"abort {name}: revision {revision} is latched with weight {taken.weight};"
        f" everything goes to revision {taken.stable}{told}"
    )

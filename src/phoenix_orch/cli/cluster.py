"""Words of `phoenix rollout … --kubernetes`: past the API, on the objects of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phoenix_orch.cli.options import Output
from phoenix_orch.cli.output import emit
from phoenix_orch.cli.output import say as tell
from phoenix_orch.cli.reaching import cluster
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.rollout.commands import typed
from phoenix_orch.rollout.status import CommandKind

if TYPE_CHECKING:
    from phoenix_orch.orchestrator.cluster.person import AbortedInCluster


def say(
    access: Access, name: str, kind: CommandKind, reason: str, done: str, *, step: int | None, dry_run: bool
) -> None:
    """A word, and what came of it."""
    with cluster(access) as client:
        waits = client.say(name, kind, reason=reason, step=step, dry_run=dry_run)
    tell(
        f"{typed(kind)} {name}: would be possible: {done}"
        if dry_run
        else f"{typed(kind)} {name}: {waits or done}"
    )


def abort(access: Access, name: str, reason: str, output: Output, *, dry_run: bool) -> None:
    """The latch and weight 0, written by the router alone."""
    with cluster(access) as client:
        taken = client.abort(name, reason=reason, dry_run=dry_run)
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


def images(words: list[str]) -> dict[str, str]:
    """Images by container, from `CONTAINER=IMAGE`; `IMAGE` alone is that of the only one. Raises Invalid."""
    found: dict[str, str] = {}
    for word in words:
        container, equals, image = word.partition("=")
        if not equals:
            container, image = "", word
        if not image or (equals and not container):
            raise Invalid(f"--image {word!r} is not CONTAINER=IMAGE", remedy="for example --image web=shop:2")
        if container in found:
            raise Invalid(
                f"--image names {container or 'the only container'} twice",
                remedy="give one image for each container",
            )
        found[container] = image
    return found

"""`phoenix rollout`: start, steer, take back and explain releases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from phoenix_orch.cli import cluster, reaching
from phoenix_orch.cli.cluster_options import or_in_cluster
from phoenix_orch.cli.later import Later
from phoenix_orch.cli.options import (
    UNSET,
    DataDir,
    DryRun,
    Output,
    OutputOption,
    Reason,
    RolloutName,
)
from phoenix_orch.cli.output import changes, emit
from phoenix_orch.cli.reaching import reading
from phoenix_orch.cli.recorded import explain, observations
from phoenix_orch.cli.starting import start
from phoenix_orch.cli.steering import pause, promote, resume, retry
from phoenix_orch.kernel.errors import NotFound, Retryable
from phoenix_orch.kernel.units import parse_duration
from phoenix_orch.orchestrator.cluster.access import Access

if TYPE_CHECKING:
    from phoenix_orch.cli import aborting, following, pages, tables
else:
    aborting, following, pages, tables = map(Later, ("aborting", "following", "pages", "tables"))

app = typer.Typer(
    name="rollout",
    help="Start, steer, take back and explain releases.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)


def _timeout(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


app.command()(start)


@app.command()
@or_in_cluster(log=True)
def status(
    name: RolloutName,
    wait: Annotated[bool, typer.Option("--wait", help="Until the release has ended.")] = False,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="DURATION", help="With --wait: at most so long; exit 5."),
    ] = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> int:
    """Where a rollout stands.

    Exit status 0; 4 when the release was rolled back; 5 when --timeout passed.
    """
    limit = _timeout(timeout)
    with reading(there, data_dir) as client:
        quiet = output is not Output.TABLE
        code = following.follow(client, name, timeout=limit, quiet=quiet) if wait else None
        view = client.rollout(name)
    told = code is not None  # while it was followed
    emit(output, view, pages.status(view), speed=1.0 if told else view.speed)
    return following.exit_code(view) if code is None else code


@app.command()
@or_in_cluster(log=True)
def watch(name: RolloutName, data_dir: DataDir = UNSET, *, there: Access | None = None) -> int:
    """Follow a rollout live until its release has ended.

    Ctrl-C ends the watching, not the release. Exit status as of `status`.
    """
    with reading(there, data_dir) as client:
        return following.follow(client, name, timeout=None)


app.command()(pause)
app.command()(resume)
app.command()(promote)
app.command()(retry)


@app.command()
@or_in_cluster()
def abort(  # noqa: PLR0917 - one parameter for each option
    name: RolloutName,
    reason: Reason = "",
    timeout: Annotated[
        str,
        typer.Option("--timeout", metavar="DURATION", help="How long to wait until it is seen to be done."),
    ] = "5s",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """Take the release back now: all traffic to stable.

    Ends well when the revision is latched and the router is seen to send it nothing, and says what is
    missing otherwise. Works with Phoenix dead, too: then the traffic object itself is latched. With
    --kubernetes that is the first that is done, and nothing of Phoenix needs to run.
    """
    within = _timeout(timeout) or 0.0
    if there is not None:
        cluster.abort(there, name, reason, output, dry_run=dry_run)
        return
    if dry_run:
        taken = aborting.tried(data_dir, name)
    else:
        taken = aborting.take_back(data_dir, name, reason=reason, within=within)
    if output is not Output.TABLE or not taken.problem:
        emit(output, taken, aborting.text(taken))
    if taken.problem:
        raise Retryable(taken.problem, remedy=taken.remedy)


@app.command()
@or_in_cluster()
def undo(  # noqa: PLR0917 - one parameter for each option
    name: RolloutName,
    to_revision: Annotated[
        int | None,
        typer.Option("--to-revision", metavar="N", min=1, help="Its number in `phoenix get revisions`."),
    ] = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """Go back to the revision before, or to one by its number."""
    with reaching.client(data_dir) if there is None else reaching.cluster(there) as client:
        change = client.undo(name, to_revision=to_revision, reason=reason, dry_run=dry_run)
    emit(output, change, changes([change], dry_run=dry_run))


@app.command()
@or_in_cluster(log=True)
def history(
    name: RolloutName,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=1000, help="At most so many.")
    ] = 20,
    release: Annotated[
        int | None,
        typer.Option("--release", metavar="N", min=1, help="This one alone, with all that is known of it."),
    ] = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """Releases that have ended, the newest first, and how."""
    with reading(there, data_dir) as client:
        found = client.history(name, limit=limit if release is None else 1000)
        speed = client.speed()
    if release is None:
        emit(output, found, tables.history(found), speed=speed)
        return
    one = [ended for ended in found if ended.number == release]
    if not one:
        known = ", ".join(str(ended.number) for ended in found[:10]) or "none"
        raise NotFound(f"{name} has no release {release}", remedy=f"releases that have ended: {known}")
    emit(output, one, pages.release(one[0]), speed=speed)


app.command()(explain)
app.command()(observations)

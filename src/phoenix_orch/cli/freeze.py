"""`phoenix freeze`: times in which no release begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from phoenix_orch.cli import flow_pages, reaching
from phoenix_orch.cli.cluster_options import or_in_cluster
from phoenix_orch.cli.options import (
    UNSET,
    DataDir,
    DryRun,
    Output,
    OutputOption,
    Reason,
    RolloutName,
    complete,
)
from phoenix_orch.cli.output import emit
from phoenix_orch.cli.reaching import reading
from phoenix_orch.kernel.units import parse_duration
from phoenix_orch.orchestrator.cluster.access import Access

app = typer.Typer(
    name="freeze",
    help="Begin, end and list times in which no release begins.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
FreezeName = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="As `phoenix freeze list` has it.", autocompletion=complete("freezes")
    ),
]


@app.command("list")
@or_in_cluster(log=True)
def list_freezes(
    output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET, *, there: Access | None = None
) -> None:
    """Freezes that are in force or to come."""
    with reading(there, data_dir) as client:
        found, speed = client.freezes(), client.speed()
    emit(output, found, flow_pages.freezes(found), speed=speed)


@app.command()
@or_in_cluster(log=True)
def start(  # noqa: PLR0917 - one parameter for each option
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; whoever waits reads it.")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Left out: one is made of the time.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="Its end: 2026-12-24T18:00 (UTC), or with an offset."),
    ] = None,
    lasting: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="In place of --until: 4h, 2d.")
    ] = None,
    rollouts: Annotated[
        list[str] | None,
        typer.Option("--rollout", metavar="PATTERN", help="Which rollouts; left out: all. May be repeated."),
    ] = None,
    pause: Annotated[
        bool, typer.Option("--pause", help="Releases under way get no more weight either.")
    ] = False,
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """Begin a freeze now; without --until and --for it lasts until `phoenix freeze end`.

    Aborts, rollbacks and undo go on as ever.
    """
    with reaching.either(there, data_dir) as client:
        found = client.start_freeze(
            name,
            until=_moment(until),
            lasting=_duration(lasting),
            rollouts=tuple(rollouts or ()),
            reason=reason,
            under_way="pause" if pause else "continue",
            dry_run=dry_run,
        )
    emit(output, found, flow_pages.started(found, dry_run=dry_run))


@app.command()
@or_in_cluster(log=True)
def end(
    name: FreezeName,
    reason: Reason = "",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """End a freeze that a person began."""
    with reaching.either(there, data_dir) as client:
        found = client.end_freeze(name, reason=reason, dry_run=dry_run)
    emit(output, found, flow_pages.ended(found, dry_run=dry_run))


@app.command()
@or_in_cluster(log=True)
def override(
    name: RolloutName,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept with the event.")],
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """Let the release of a rollout that waits begin in spite of every freeze.

    It is for this revision only, and takes the right to approve.
    """
    with reaching.either(there, data_dir) as client:
        found = client.override_freeze(name, reason=reason, dry_run=dry_run)
    emit(output, found, flow_pages.overridden(found, dry_run=dry_run))


def _duration(text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no moment; write 2026-12-24T18:00, or 2026-12-24T18:00+01:00"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)

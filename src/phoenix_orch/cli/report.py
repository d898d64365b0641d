"""`phoenix report`: what releases came to over some time."""

from __future__ import annotations

from typing import Annotated

import typer

from phoenix_orch.cli import flow_pages
from phoenix_orch.cli.cluster_options import or_in_cluster
from phoenix_orch.cli.options import UNSET, DataDir, OptionalName, Output, OutputOption
from phoenix_orch.cli.output import emit
from phoenix_orch.cli.reaching import reading
from phoenix_orch.kernel.units import parse_duration
from phoenix_orch.orchestrator.cluster.access import Access

app = typer.Typer(
    name="report",
    help="What releases came to over some time.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.callback()
def report() -> None:
    """What releases came to over some time."""


@app.command()
@or_in_cluster(log=True)
def dora(
    name: OptionalName = None,
    since: Annotated[
        str, typer.Option("--since", metavar="DURATION", help="How far back: 7d, 30d, 90d.")
    ] = "30d",
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """Deployment frequency, lead time, change failure rate, time to restore.

    Each with how many releases it is of; what is measured stands below the table.
    """
    try:
        window = parse_duration(since)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not window:
        raise typer.BadParameter("--since 0s is no time to report on")
    with reading(there, data_dir) as client:
        found, speed = client.dora(window, name), client.speed()
    emit(output, found, flow_pages.dora(found), speed=speed)

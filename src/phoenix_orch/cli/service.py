"""`phoenix service`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from phoenix_orch.cli import reaching, tables
from phoenix_orch.cli.options import UNSET, DataDir, DryRun, Output, OutputOption, ServiceName
from phoenix_orch.cli.output import emit
from phoenix_orch.client.service_logs import ServiceLogReader
from phoenix_orch.kernel.text import counted, plain
from phoenix_orch.orchestrator.views import LogPage

app = typer.Typer(
    name="service",
    help="List services, read their logs, restart them.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
FOLLOW_INTERVAL = 0.5
"""Seconds between looks at a log that is followed."""


@app.command("list")
def list_services(output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET) -> None:
    """What runs, and under which address."""
    with reaching.client(data_dir) as client:
        views = client.services()
    emit(output, views, tables.services(views))


@app.command()
def logs(  # noqa: PLR0917 - one parameter for each option
    name: ServiceName,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")
    ] = False,
    instance: Annotated[
        str | None,
        typer.Option("--instance", metavar="NAME", help="Of one instance only, also of one that has ended."),
    ] = None,
    lines: Annotated[
        int, typer.Option("--lines", metavar="N", min=0, max=10_000, help="How many to begin with, in all.")
    ] = 100,
    raw: Annotated[
        bool, typer.Option("--raw", help="The lines alone, without the names of who wrote them.")
    ] = False,
    data_dir: DataDir = UNSET,
) -> None:
    """What the instances of a service write, the newest last.

    The last lines of all instances there are, in the order of the times in them. Where lines have no
    time, so many of each instance, one after another. Phoenix need not run.
    """
    alone = raw or instance is not None
    with reaching.client(data_dir) as client:
        reader = ServiceLogReader(client, data_dir, name)
        page = reader.begin(lines=lines, instance=instance)
        _print(page, alone=alone)
        while follow:
            time.sleep(FOLLOW_INTERVAL)
            page = reader.more(page.offsets, lines=lines, instance=instance)
            _print(page, alone=alone)


def _print(page: LogPage, *, alone: bool) -> None:
    for line in page.lines:
        text = plain(line.text, keep="\t")
        print(text if alone else f"{plain(line.instance)}  {text}", flush=True)


@app.command()
def restart(
    name: ServiceName,
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Replace the instances one after another, each ready before the next one leaves."""
    with reaching.client(data_dir) as client:
        view = client.restart(name, dry_run=dry_run)
    verb = "would replace" if dry_run else "replaces"
    emit(
        output, view, f"Phoenix {verb} {counted(view.replicas, 'instance')} of {view.name} one after another"
    )

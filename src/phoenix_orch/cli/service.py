"""`phoenix service`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from phoenix_orch.cli import tables
from phoenix_orch.cli.options import UNSET, DataDir, DryRun, Output, OutputOption, ServiceName
from phoenix_orch.cli.output import emit
from phoenix_orch.client import Client
from phoenix_orch.kernel.text import plain
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
    with Client(data_dir) as client:
        views = client.services()
    emit(output, views, tables.services(views))


@app.command()
def logs(
    name: ServiceName,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")
    ] = False,
    instance: Annotated[
        str | None, typer.Option("--instance", metavar="NAME", help="Of one instance only.")
    ] = None,
    lines: Annotated[
        int, typer.Option("--lines", metavar="N", min=0, max=10_000, help="How many to begin with.")
    ] = 100,
    data_dir: DataDir = UNSET,
) -> None:
    """What the instances of a service wrote."""
    with Client(data_dir) as client:
        page = client.logs(name, instance=instance, lines=lines)
        _print(page, alone=instance is not None)
        while follow:
            time.sleep(FOLLOW_INTERVAL)
            page = client.logs(name, instance=instance, lines=lines, after=page.offsets)
            _print(page, alone=instance is not None)


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
    with Client(data_dir) as client:
        view = client.restart(name, dry_run=dry_run)
    verb = "would be replaced" if dry_run else "are replaced"
    emit(output, view, f"{view.replicas} instances of {view.name} {verb} one after another")

"""`phoenix status-page`: the public page, as files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from phoenix_orch.cli.options import UNSET, DataDir, DryRun, Output, OutputOption
from phoenix_orch.cli.output import emit
from phoenix_orch.client import Client
from phoenix_orch.orchestrator.layout import Layout

app = typer.Typer(
    name="status-page",
    help="Write the public status page.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.callback()
def status_page() -> None:
    """Write the public status page."""


@app.command()
def write(
    directory: Annotated[
        Path, typer.Option("--directory", metavar="DIR", help="Where; made where it is missing.")
    ],
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="Its heading.")] = "Status",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Write the page once, of what is known now. `statusPage` in phoenix.yaml does it every half minute."""
    from phoenix_orch.console import status_page as page  # noqa: PLC0415 - templates are slow to import
    from phoenix_orch.console.status_writer import newest, read_days  # noqa: PLC0415

    with Client(data_dir) as client:
        parts = page.well_now(client.services(), client.health()["components"])
        names = [view.rollout.name for view in client.rollouts()]
        releases = [(name, one) for name in names for one in client.history(name, limit=page.LATEST)]
    days = read_days(Layout(data_dir.expanduser().absolute()).status_days)
    files = page.pages(page.Facts(datetime.now(UTC), parts, newest(releases)), days, title)
    if not dry_run:
        page.write(directory, files)
    told = [{"file": str(directory / name), "bytes": len(content)} for name, content in files.items()]
    verb = "would write" if dry_run else "wrote"
    emit(output, {"dryRun": dry_run, "files": told}, "\n".join(f"{verb} {one['file']}" for one in told))

"""`phoenix backup`."""

from __future__ import annotations

import typer

from phoenix_orch.cli import backup_config

app = typer.Typer(
    name="backup",
    help="Look at what was backed up.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
app.add_typer(backup_config.app, name="config")

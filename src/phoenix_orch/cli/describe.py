"""`phoenix describe`: everything about one thing."""

from __future__ import annotations

import typer

from phoenix_orch.cli import pages
from phoenix_orch.cli.options import UNSET, DataDir, Output, OutputOption, RolloutName
from phoenix_orch.cli.output import data, emit
from phoenix_orch.client import Client

app = typer.Typer(
    name="describe",
    help="Show everything about one rollout.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
EVENTS = 15


@app.command()
def rollout(name: RolloutName, output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET) -> None:
    """State, phases, numbers of both variants, verdict, instances, revisions and events."""
    with Client(data_dir) as client:
        view, events, revisions = (
            client.rollout(name),
            client.events(name, limit=EVENTS),
            client.revisions(name),
        )
    whole = {**data(view), "events": data(events), "revisions": data(revisions)}
    emit(output, whole, pages.describe(view, events, revisions), speed=view.speed)


app.command("rollouts", hidden=True)(rollout)

"""`phoenix describe`: everything about one thing."""

from __future__ import annotations

from pathlib import Path

import typer

from phoenix_orch.cli import pages, reaching
from phoenix_orch.cli.cluster_options import or_in_cluster
from phoenix_orch.cli.options import UNSET, DataDir, Output, OutputOption, RolloutName
from phoenix_orch.cli.output import data, emit
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.status import Event, Revision

app = typer.Typer(
    name="describe",
    help="Show everything about one rollout.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
EVENTS = 15


@app.command()
@or_in_cluster(log=True)
def rollout(
    name: RolloutName,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """State, phases, numbers of both variants, verdict, instances, revisions and events."""
    view, events, revisions = _here(name, data_dir) if there is None else _there(name, there)
    whole = {**data(view), "events": data(events), "revisions": data(revisions)}
    emit(output, whole, pages.describe(view, events, revisions), speed=view.speed)


Shown = tuple[RolloutView, list[Event], list[Revision]]


def _here(name: str, data_dir: Path) -> Shown:
    with reaching.client(data_dir) as client:
        return client.rollout(name), client.events(name, limit=EVENTS), client.revisions(name)


def _there(name: str, access: Access) -> Shown:
    with reaching.cluster(access) as client:
        view = client.rollout(name, pods=True)
        return view, client.events(name, limit=EVENTS), client.revisions(name)


app.command("rollouts", hidden=True)(rollout)

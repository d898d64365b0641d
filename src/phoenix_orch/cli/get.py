"""`phoenix get`: lists."""

from __future__ import annotations

from typing import Annotated

import typer

from phoenix_orch.cli import flow_pages, reaching, tables
from phoenix_orch.cli.cluster_options import or_in_cluster
from phoenix_orch.cli.options import UNSET, DataDir, OptionalName, OptionalService, Output, OutputOption
from phoenix_orch.cli.output import emit
from phoenix_orch.cli.reaching import reading
from phoenix_orch.client.reads import Reads
from phoenix_orch.kernel.errors import Invalid, NotFound
from phoenix_orch.orchestrator.cluster.access import Access

app = typer.Typer(
    name="get",
    help="List rollouts, services, revisions, events, groups, config.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=20_000, help="At most so many.")]


@app.command()
@or_in_cluster()
def rollouts(
    name: OptionalName = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """Where every rollout stands."""
    with reading(there, data_dir) as client:
        views = client.rollouts() if name is None else [client.rollout(name)]
    speed = views[0].speed if views else 1.0
    emit(output, views, tables.rollouts(views), speed=speed)


@app.command()
def services(
    name: OptionalService = None, output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET
) -> None:
    """What runs, and under which address."""
    with reaching.client(data_dir) as client:
        views = client.services() if name is None else [client.service(name)]
    emit(output, views, tables.services(views))


@app.command()
def config(output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET) -> None:
    """What was applied last, with its version for `phoenix apply --expect`; secrets are masked."""
    with reaching.client(data_dir) as client:
        found = client.config()
    emit(output, {"version": found.version, "config": found.config}, tables.configuration(found))


@app.command()
@or_in_cluster()
def revisions(
    name: OptionalName = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """What has been wanted of a rollout, and can be gone back to.

    IS tells the stable one, the canary, the one before while it is kept warm, and those that are latched.
    """
    with reading(there, data_dir) as client:
        name = name or _only(client)
        found, view = client.revisions(name), client.rollout(name)
    emit(output, found, tables.revisions(found, view), speed=view.speed)


@app.command()
@or_in_cluster(log=True)
def events(
    name: OptionalName = None,
    limit: Limit = 50,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """What happened to a rollout, the newest last."""
    with reading(there, data_dir) as client:
        found, speed = client.events(name or _only(client), limit=limit), client.speed()
    emit(output, found, tables.events(found), speed=speed)


@app.command()
@or_in_cluster()
def groups(
    output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET, *, there: Access | None = None
) -> None:
    """Groups of rollouts, and where their members stand."""
    with reading(there, data_dir) as client:
        found = client.groups()
    emit(output, found, flow_pages.groups(found))


def _only(client: Reads) -> str:
    """The name of the one rollout there is."""
    names = [view.rollout.name for view in client.rollouts()]
    if len(names) == 1:
        return names[0]
    if not names:
        raise NotFound("there are no rollouts", remedy="`phoenix apply -f FILE` makes them")
    raise Invalid(f"there are {len(names)} rollouts", remedy=f"name one: {', '.join(names)}")


for _name, _command in (("rollout", rollouts), ("service", services)):
    app.command(_name, hidden=True)(_command)

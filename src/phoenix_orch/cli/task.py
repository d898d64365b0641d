"""`phoenix task`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from phoenix_orch.cli import reaching, task_pages
from phoenix_orch.cli.options import UNSET, DataDir, DryRun, Output, OutputOption, Reason, complete
from phoenix_orch.cli.output import emit
from phoenix_orch.client import Client
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.text import plain
from phoenix_orch.tasks.port import RunRequest
from phoenix_orch.tasks.record import LogEntry, LogKind, State, TaskRecord

app = typer.Typer(
    name="task",
    help="Run, watch, cancel and schedule durable tasks.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
schedules = typer.Typer(
    name="schedule",
    help="List, pause, resume and run schedules.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
app.add_typer(schedules)

PAGE = 1000

Id = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="Id of the task, from `phoenix task list`.", autocompletion=complete("tasks")
    ),
]
ScheduleName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Name of the schedule.", autocompletion=complete("schedules")),
]


@app.command("list")
def list_tasks(
    state: Annotated[
        State | None, typer.Option("--state", help="Only those in this state.", case_sensitive=False)
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only those of a kind.")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=500, help="How many.")] = 50,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """The newest tasks, and how they stand."""
    with reaching.client(data_dir) as client:
        page = client.tasks(state=state, kind=kind, limit=limit)
    emit(output, page.items, task_pages.tasks(page, chosen=state is not None or kind is not None))


@app.command()
def kinds(output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET) -> None:
    """What can be run."""
    with reaching.client(data_dir) as client:
        specs = client.task_kinds()
    emit(output, specs, task_pages.kinds(specs))


@app.command()
def show(task: Id, output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET) -> None:
    """Everything about one task."""
    with reaching.client(data_dir) as client:
        record = client.task(task)
    emit(output, record, task_pages.task(record))


@app.command()
def run(  # noqa: PLR0917 - one parameter for each option
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="What to run, from `phoenix task kinds`.",
            autocompletion=complete("kinds of tasks"),
        ),
    ],
    argument: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="NAME=VALUE", help="An argument; repeat it. Values may be JSON."),
    ] = None,
    target: Annotated[str, typer.Option("--target", metavar="NAME", help="What it works on.")] = "",
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="At most one task with a key is active.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show its log until it is over.")] = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> int:
    """Have a task done; one with the same key that is active already is taken for it."""
    request = RunRequest(
        kind=kind, arguments=_arguments(argument or []), target=target, key=key, reason=reason
    )
    with reaching.client(data_dir) as client:
        record = client.run_task(request, dry_run=dry_run)
        if follow and not dry_run:
            return follow_task(client, record.id)
    verb = "would be" if dry_run else "is"
    emit(output, record, f"task {record.id} ({record.kind}) {verb} {record.state}")
    return 0


@app.command()
def cancel(
    task: Id, dry_run: DryRun = False, output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET
) -> None:
    """End a task; one that runs gets time to clean up."""
    with reaching.client(data_dir) as client:
        record = client.task(task) if dry_run else client.cancel_task(task)
    text = f"task {record.id} would be cancelled: it is {record.state}" if dry_run else _standing(record)
    emit(output, record, text)


@app.command()
def retry(
    task: Id, dry_run: DryRun = False, output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET
) -> None:
    """Begin a task anew that failed, was cancelled or is dead."""
    with reaching.client(data_dir) as client:
        record = client.task(task) if dry_run else client.retry_task(task)
    text = f"task {record.id} would begin anew: it is {record.state}" if dry_run else _standing(record)
    emit(output, record, text)


def _standing(record: TaskRecord) -> str:
    if record.cancelling:
        return f"task {record.id} cleans up, cancelled by {record.cancelling}"
    return f"task {record.id} is {record.state}"


@app.command()
def logs(
    task: Id,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what it says, until it is over.")
    ] = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> int:
    """What a task said, and what happened to it."""
    with reaching.client(data_dir) as client:
        if follow:
            return follow_task(client, task)
        entries: list[LogEntry] = []
        while page := client.task_log(task, after=entries[-1].id if entries else "", limit=PAGE):
            entries += page
    emit(output, entries, "\n".join(task_pages.line(entry) for entry in entries) or "it has said nothing yet")
    return 0


def follow_task(client: Client, task: str) -> int:
    """Print what it says until it is over; 0 when it succeeded, 1 when it did not."""
    before = None
    for event in client.follow_task(task):
        entry = LogEntry.model_validate(event.data)
        seen = (entry.kind, task_pages.line(entry, time=False))
        if entry.kind is not LogKind.PROGRESS or seen != before:
            print(plain(task_pages.line(entry), keep="\t"), flush=True)
        before = seen
    return 0 if client.task(task).state is State.SUCCEEDED else 1


@schedules.command("list")
def list_schedules(output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET) -> None:
    """All schedules: when they run, and what became of their slots."""
    with reaching.client(data_dir) as client:
        views = client.schedules()
    emit(output, views, task_pages.schedules(views))


@schedules.command("show")
def show_schedule(name: ScheduleName, output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET) -> None:
    """One schedule."""
    with reaching.client(data_dir) as client:
        view = client.schedule(name)
    emit(output, view, task_pages.schedules([view]))


@schedules.command()
def pause(
    name: ScheduleName,
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Run no slot of it until it is resumed."""
    with reaching.client(data_dir) as client:
        view = client.schedule(name) if dry_run else client.pause_schedule(name)
    emit(output, view, f"schedule {name} {'would be' if dry_run else 'is'} paused")


@schedules.command()
def resume(
    name: ScheduleName,
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Run its slots again; those that passed meanwhile are neither run nor missed."""
    with reaching.client(data_dir) as client:
        view = client.schedule(name) if dry_run else client.resume_schedule(name)
    emit(output, view, f"schedule {name} {'would run' if dry_run else 'runs'} again")


@schedules.command("run")
def run_schedule(
    name: ScheduleName,
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Run what it runs, now and besides."""
    with reaching.client(data_dir) as client:
        if dry_run:
            view = client.schedule(name)
            emit(output, view, f"a task ({view.kind}) of schedule {name} would be queued")
            return
        record = client.run_schedule(name)
    emit(output, record, f"task {record.id} ({record.kind}) is {record.state}")


def _arguments(words: list[str]) -> dict[str, Any]:
    found = {}
    for word in words:
        name, given, value = word.partition("=")
        if not given or not name:
            raise Invalid("an --arg has no '='", remedy="write --arg NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found

"""`phoenix approval`: second persons for what destroys."""

from __future__ import annotations

from typing import Annotated

import typer

from phoenix_orch.cli import reaching
from phoenix_orch.cli.options import UNSET, DataDir, DryRun, Output, OutputOption, Reason
from phoenix_orch.cli.output import columns, emit
from phoenix_orch.security.two_persons import Approval

app = typer.Typer(
    name="approval",
    help="Agree, as a second person, to what destroys, or refuse it.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
Id = Annotated[str, typer.Argument(metavar="ID", help="As `phoenix approval list` has it.")]


@app.command("list")
def list_approvals(output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET) -> None:
    """What waits for a second person, and what came of it."""
    with reaching.client(data_dir) as client:
        found = client.approvals()
    emit(output, found, _table(found))


@app.command()
def approve(
    id: Id,  # noqa: A002 - the word of the API
    reason: Reason = "",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Agree. Whoever asked cannot; they have 15 minutes to do it then."""
    with reaching.client(data_dir) as client:
        one = client.approve(id, reason=reason, dry_run=dry_run)
    until, word = f"{one.until:%H:%M} UTC", "could" if dry_run else "may"
    emit(output, one, f"{one.asked_by} {word} do {one.action} of {one.target} until {until}")


@app.command()
def refuse(
    id: Id,  # noqa: A002
    reason: Reason = "",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Refuse it. Whoever asked takes it back so."""
    with reaching.client(data_dir) as client:
        one = client.refuse(id, reason=reason, dry_run=dry_run)
    emit(output, one, f"{one.action} of {one.target} {'would be' if dry_run else 'is'} refused")


def _table(found: list[Approval]) -> str:
    return columns(
        ("ID", "STATE", "ACTION", "TARGET", "ASKED BY", "UNTIL", "ANSWERED BY", "REASON"),
        [
            (
                one.id,
                one.state.value,
                one.action,
                one.target,
                one.asked_by,
                f"{one.until:%Y-%m-%d %H:%M}",
                one.answered_by,
                one.answer or one.reason,
            )
            for one in found
        ],
        empty="nothing waits for a second person",
    )

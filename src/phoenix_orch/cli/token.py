"""`phoenix token`: what programs, and people elsewhere, get in with."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import Annotated

import typer

from phoenix_orch.cli import reaching
from phoenix_orch.cli.options import UNSET, DataDir, DryRun, Output, OutputOption, Reason, complete
from phoenix_orch.cli.output import columns, emit, say
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.units import parse_duration
from phoenix_orch.orchestrator.identity_views import TokenView
from phoenix_orch.security.rights import EVERYWHERE, Role

app = typer.Typer(
    name="token",
    help="Make, list and revoke API tokens.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
NEVER = "never"


@app.command("list")
def list_tokens(output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET) -> None:
    """All tokens, also those that let nobody in any more."""
    with reaching.client(data_dir) as client:
        found = client.tokens()
    emit(output, found, _table(found))


@app.command()
def create(  # noqa: PLR0917 - one parameter for each option
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for: the actor of what it does.")],
    role: Annotated[Role, typer.Option("--role", help="What it may do.", case_sensitive=False)] = Role.VIEWER,
    namespaces: Annotated[
        list[str] | None,
        typer.Option("--namespace", metavar="NAME", help="Where; left out: everywhere. May be repeated."),
    ] = None,
    lasting: Annotated[
        str,
        typer.Option("--for", metavar="DURATION", help="How long it lets in, at most 366d; or `never` ends."),
    ] = "90d",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Make a token, and print it. It is shown this once."""
    with reaching.client(data_dir) as client:
        made = client.create_token(
            name,
            role,
            namespaces=tuple(namespaces or (EVERYWHERE,)),
            lasting=None if lasting == NEVER else _duration(lasting),
            dry_run=dry_run,
        )
    emit(output, made, f"would make {_line(made.view)}" if dry_run else made.token)
    if output is Output.TABLE and not dry_run:
        say(
            _line(made.view), to=sys.stderr
        )  # beside the output, so that `> token` makes a file for --token-file


@app.command()
def revoke(
    id: Annotated[  # noqa: A002
        str,
        typer.Argument(
            metavar="ID", help="As `phoenix token list` has it.", autocompletion=complete("tokens")
        ),
    ],
    reason: Reason = "",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Let nobody in with a token from now on; its streams and sessions end at once."""
    with reaching.client(data_dir) as client:
        view = client.revoke_token(id, reason=reason, dry_run=dry_run)
    verb = "would be revoked" if dry_run else "is revoked"
    emit(output, view, f"{_line(view)} {verb}")


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise Invalid(f"--for: {error}", remedy="for example --for 30d, or --for never") from None


def _line(view: TokenView) -> str:
    until = "lasts until it is revoked" if view.expires is None else f"lasts until {_moment(view.expires)}"
    return f"token {view.id} ({view.name}, {_grants(view)}; {until})"


def _grants(view: TokenView) -> str:
    return ", ".join(
        grant.role.value + ("" if grant.namespace == EVERYWHERE else f" in {grant.namespace}")
        for grant in view.grants
    )


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else moment.strftime("%Y-%m-%d %H:%M")


def _table(found: list[TokenView]) -> str:
    header = ("ID", "NAME", "STATE", "ROLE", "EXPIRES", "LAST USED", "MADE BY")
    return columns(
        header,
        [
            (
                one.id,
                one.name,
                one.state,
                _grants(one),
                _moment(one.expires) or NEVER,
                _moment(one.last_used),
                one.maker,
            )
            for one in found
        ],
        empty="no tokens",
    )

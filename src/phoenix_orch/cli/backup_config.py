"""`phoenix backup config`: reads the history of configurations of the data directory, or a bundle of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from phoenix_orch.cli.options import UNSET, DataDir, Output, OutputOption
from phoenix_orch.cli.output import columns, emit
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.layout import Layout

app = typer.Typer(
    name="config",
    help="The history of configurations: log, diff, show. Values of secrets are never shown.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
_DIGITS = 12
"""Of a commit's id in tables."""

Bundle = Annotated[
    Path | None,
    typer.Option("--bundle", metavar="FILE", help="A bundle from a backup, in place of the data directory."),
]
AsOf = Annotated[
    str | None, typer.Option("--as-of", metavar="WHEN", help="As it was then: 2026-11-28T10:00:00Z.")
]
Commit = Annotated[
    str | None, typer.Option("--commit", metavar="ID", help="HEAD, HEAD~2, or the beginning of an id.")
]


def moment(text: str | None) -> datetime | None:
    """A moment with its zone; without one it is UTC. Raises Invalid."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{text!r} is no moment", remedy="write it as 2026-11-28T10:00:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@app.command()
def log(
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="The newest so many.")] = 20,
    bundle: Bundle = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """When the configuration changed, and in what; the newest first."""
    from phoenix_orch.orchestrator import config_history  # noqa: PLC0415 - Git: 0.6 s

    with config_history.opened(Layout(data_dir).configurations, bundle) as repository:
        found = config_history.log(repository, limit)
    rows = [
        (one.commit[:_DIGITS], f"{one.at:%Y-%m-%dT%H:%M:%SZ}", one.message.partition("\n")[0])
        for one in found.commits
    ]
    table = columns(("COMMIT", "TIME", "CHANGE"), rows, empty="nothing was backed up", whole=False)
    seen = f"\nlooked at last: {found.looked_at:%Y-%m-%dT%H:%M:%SZ}" if found.looked_at else ""
    emit(output, found, f"{table}{seen}")


@app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="[OLD]", help="A commit; left out, the one before NEW.")] = "",
    new: Annotated[str, typer.Argument(metavar="[NEW]", help="A commit; left out, the newest.")] = "HEAD",
    bundle: Bundle = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """What differs between two commits. A changed secret has another sign in place of its value."""
    from phoenix_orch.orchestrator import config_history  # noqa: PLC0415 - Git: 0.6 s

    with config_history.opened(Layout(data_dir).configurations, bundle) as repository:
        after = config_history.chosen(repository, new, None)
        before = (
            config_history.chosen(repository, old, None) if old else config_history.before(repository, after)
        )
        found = config_history.diff(repository, before.commit, after.commit)
    lines = [line for one in found.files for line in one.diff]
    emit(output, found, "\n".join(lines) or "nothing differs")


@app.command()
def show(  # noqa: PLR0917 - one parameter for each option
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="A file or folder, as shop/ConfigMap.")] = "",
    commit: Commit = None,
    as_of: AsOf = None,
    bundle: Bundle = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """One file as it was backed up, or the names of those in a folder."""
    from phoenix_orch.orchestrator import config_history  # noqa: PLC0415 - Git: 0.6 s

    with config_history.opened(Layout(data_dir).configurations, bundle) as repository:
        found = config_history.show(
            repository, config_history.chosen(repository, commit, moment(as_of)), path.strip("/")
        )
    emit(output, found, found.content.rstrip("\n") or "\n".join(found.paths))

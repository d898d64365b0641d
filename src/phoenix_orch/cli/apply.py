"""`phoenix apply`."""

from __future__ import annotations

from typing import Annotated

import typer

from phoenix_orch.cli import reaching
from phoenix_orch.cli.options import (
    DEFAULT_FILE,
    UNSET,
    DataDir,
    DryRun,
    EvenIfUnattainable,
    File,
    Output,
    OutputOption,
)
from phoenix_orch.cli.output import changes, emit
from phoenix_orch.orchestrator.config import load

Expect = Annotated[
    str | None,
    typer.Option("--expect", metavar="VERSION", help="Only if what is applied now has this version."),
]


def apply(  # noqa: PLR0917 - options, given by name
    file: File = DEFAULT_FILE,
    dry_run: DryRun = False,
    even_if_unattainable: EvenIfUnattainable = False,
    expect: Expect = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Make a phoenix.yaml what is wanted, or nothing of it.

    What the file does not name stays as it is. A service whose template differs from the one applied
    last is released step by step. With --expect nothing is done when somebody else has applied something
    since `phoenix get config` told that version.
    """
    config = load(file)
    with reaching.client(data_dir) as client:
        found = client.apply(
            config, dry_run=dry_run, even_if_unattainable=even_if_unattainable, expect=expect
        )
    emit(output, found, changes(found, dry_run=dry_run))

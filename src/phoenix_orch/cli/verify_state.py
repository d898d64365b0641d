"""`phoenix verify-state`, and the program `verify-state` of the image."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from phoenix_orch.cli.cluster_options import STORE_VARIABLE
from phoenix_orch.cli.options import UNSET, DataDir, Output, OutputOption
from phoenix_orch.cli.output import columns, emit
from phoenix_orch.cli.streams import readable_streams
from phoenix_orch.kernel.config import field_path
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.state_verifying import (
    in_pod,
    verify_embedded,
    verify_folder,
    verify_in_cluster,
)
from phoenix_orch.recovery.consistency_spec import FileCheck
from phoenix_orch.recovery.verify_state import StateReport

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help=f"The Valkey or Redis of Phoenix, where it is not the embedded one. [env: {STORE_VARIABLE}]",
    ),
]


Folder = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", help="Look at the state of an application in it instead."),
]
Checks = Annotated[
    str,
    typer.Option("--checks", metavar="JSON", help="With --folder: a list, as `checks` in phoenix.yaml."),
]


def verify_state(
    output: OutputOption = Output.TABLE,
    store: Store = None,
    folder: Folder = None,
    checks: Checks = "[]",
    data_dir: DataDir = UNSET,
) -> int:
    """Check that the state of Phoenix is whole.

    Nothing is changed, nothing is started.

    In a pod: its store and the Rollouts of its namespace. Elsewhere: the data directory. With --folder: that
    of an application. Exit status 0 whole, 1 a part is not, 3 a part could not be looked at.
    """
    if folder is not None:
        report = verify_folder(folder, _checks(checks))
        emit(output, report, _table(report))
        return report.exit_status
    url = store or os.environ.get(STORE_VARIABLE) or None
    if in_pod() and not Layout(data_dir).root.is_dir():
        report = verify_in_cluster(url)
    else:
        report = verify_embedded(Layout(data_dir), url)
    emit(output, report, _table(report))
    return report.exit_status


def _checks(text: str) -> list[FileCheck]:
    """Raises Invalid."""
    try:
        return TypeAdapter(list[FileCheck]).validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]
        raise Invalid(
            f"--checks: {field_path(fault['loc']) or 'the list'}: {fault['msg']}",
            remedy='for example --checks \'[{"kind": "sqlite", "files": "*.db"}]\'',
        ) from None


def _table(report: StateReport) -> str:
    rows = [(part.name, part.state.value, part.detail) for part in report.parts]
    lines = [columns(("PART", "STATE", "FOUND"), rows, empty="nothing was looked at", whole=False)]
    lines += [f"what to do about {part.name}: {part.remedy}" for part in report.parts if part.remedy]
    lines.append("the state is whole" if report.whole else "the state is not known to be whole")
    return "\n".join(lines)


def main() -> None:
    """The program `verify-state`: for `kubectl exec POD -- /usr/local/bin/verify-state`."""
    from phoenix_orch.cli import main as program  # noqa: PLC0415 - what `verify-state` alone needs

    readable_streams()
    sys.exit(program.run(["verify-state", *sys.argv[1:]]))

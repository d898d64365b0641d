"""`phoenix verify-state`, and the program `verify-state` of the image."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from phoenix_orch.cli.cluster_options import STORE_VARIABLE
from phoenix_orch.cli.options import UNSET, DataDir, Output, OutputOption
from phoenix_orch.cli.output import columns, emit
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.state_verifying import in_pod, verify_embedded, verify_in_cluster
from phoenix_orch.recovery.verify_state import StateReport

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help=f"The Valkey or Redis of Phoenix, where it is not the embedded one. [env: {STORE_VARIABLE}]",
    ),
]


def verify_state(output: OutputOption = Output.TABLE, store: Store = None, data_dir: DataDir = UNSET) -> int:
    """Check that the state of Phoenix is whole.

    Nothing is changed, nothing is started.

    In a pod: its store and the Rollouts of its namespace. Elsewhere: the data directory. Exit status 0 whole,
    1 a part is not, 3 a part could not be looked at.
    """
    url = store or os.environ.get(STORE_VARIABLE) or None
    if in_pod() and not Layout(data_dir).root.is_dir():
        report = verify_in_cluster(url)
    else:
        report = verify_embedded(Layout(data_dir), url)
    emit(output, report, _table(report))
    return report.exit_status


def _table(report: StateReport) -> str:
    rows = [(part.name, part.state.value, part.detail) for part in report.parts]
    lines = [columns(("PART", "STATE", "FOUND"), rows, empty="nothing was looked at", whole=False)]
    lines += [f"what to do about {part.name}: {part.remedy}" for part in report.parts if part.remedy]
    lines.append("the state is whole" if report.whole else "the state is not known to be whole")
    return "\n".join(lines)


def main() -> None:
    """The program `verify-state`: for `kubectl exec POD -- /usr/local/bin/verify-state`."""
    from phoenix_orch.cli import main as program  # noqa: PLC0415 - what `verify-state` alone needs

    program.readable_streams()
    sys.exit(program.run(["verify-state", *sys.argv[1:]]))

"""`phoenix rollout explain` and `phoenix rollout observations`: what was recorded of releases."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phoenix_orch.cli.cluster_options import or_in_cluster
from phoenix_orch.cli.later import Later
from phoenix_orch.cli.options import UNSET, DataDir, Output, OutputOption, RolloutName
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.cluster.access import Access

if TYPE_CHECKING:
    from phoenix_orch.cli import explaining, observing
else:
    explaining, observing = map(Later, ("explaining", "observing"))


class LogOutput(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    JSONL = "jsonl"


@or_in_cluster(log=True)
def explain(  # noqa: PLR0917 - one parameter for each option
    name: RolloutName,
    release: Annotated[
        int | None,
        typer.Option("--release", metavar="N", min=1, help="This release; left out: the last one."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="M",
            help="Draw errorRate, latencyP95, latencyP99 or abandonmentRate.",
            show_default="the one blamed most",
        ),
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option("--chart", metavar="FILE", help="Write the picture as .png or .svg."),
    ] = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """Why a release stands where it stands: a sentence, numbers, a picture."""
    explaining.show(there, data_dir, name, release=release, metric=metric, chart=chart, output=output)


@or_in_cluster(log=True)
def observations(
    name: RolloutName,
    release: Annotated[
        int | None,
        typer.Option("--release", metavar="N", min=1, help="Of this release; left out: the last one."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="All since then: a moment, or 2h for two hours ago."),
    ] = None,
    output: Annotated[
        LogOutput, typer.Option("--output", "-o", help="How to print it; jsonl is for `phoenix replay`.")
    ] = LogOutput.TABLE,
    data_dir: DataDir = UNSET,
    *,
    there: Access | None = None,
) -> None:
    """What both variants did, interval by interval."""
    if release is not None and since is not None:
        raise Invalid("--release and --since exclude each other", remedy="leave one of them out")
    shown = None if output is LogOutput.JSONL else Output(output.value)
    observing.show(there, data_dir, name, release=release, since=since, output=shown)

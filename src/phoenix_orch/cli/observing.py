"""`phoenix rollout observations`: what was seen, for people, programs and `phoenix replay`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from phoenix_orch.cli import records, tables
from phoenix_orch.cli.cluster_options import or_in_cluster
from phoenix_orch.cli.options import UNSET, DataDir, Output, RolloutName
from phoenix_orch.cli.output import GAVE_UP, columns, emit, without_empty
from phoenix_orch.cli.reaching import reading
from phoenix_orch.health_validator import explain, histogram
from phoenix_orch.health_validator.observation import Arm, Observation, Quality
from phoenix_orch.health_validator.recording import Header, Recording, lines
from phoenix_orch.health_validator.resting import is_rest
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.text import escaped
from phoenix_orch.orchestrator.cluster.access import Access


class LogOutput(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    JSONL = "jsonl"


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
    with reading(there, data_dir) as client:
        speed = client.speed()
        if since is None:
            record = records.of_release(client, name, release)
        else:
            spec = client.rollout(name).rollout.spec
            found = tuple(records.since(client, name, since))
            record = Recording(name, Header(rollout=name, spec=spec), found)
    if output is LogOutput.JSONL:
        for line in lines(record):
            print(escaped(line))
        return
    emit(Output(output.value), record.observations, _table(record.observations), speed=speed)


def _table(found: Sequence[Observation]) -> str:
    arm = ("FAILED", GAVE_UP, "P95")
    header = ("TIME", "STEP", "WEIGHT", "CANARY", *arm, "STABLE", *arm, "QUALITY")
    rows = [
        (
            tables.moment(observation.t1),
            *_place(observation),
            *_arm(observation.stable),
            " ".join((_quality(observation).value, *observation.notes)),
        )
        for observation in found
    ]
    return columns(*without_empty(header, rows, GAVE_UP), empty="nothing was observed")


def _place(observation: Observation) -> tuple[str, ...]:
    """Step, weight and canary; nothing of them between two releases."""
    if is_rest(observation):
        return ("",) * 6
    return str(observation.step + 1), f"{observation.weight_applied}%", *_arm(observation.canary)


def _quality(observation: Observation) -> Quality:
    watched = observation.stable if is_rest(observation) else observation.canary
    return (watched or observation.canary).quality


def _arm(arm: Arm | None) -> tuple[str, ...]:
    if arm is None:
        return ("",) * 4
    p95 = histogram.quantile(arm.buckets, 0.95)
    return f"{arm.requests:,}", f"{arm.errors:,}", f"{arm.abandoned:,}", explain.shown("latencyP95", p95)

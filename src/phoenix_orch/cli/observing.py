"""What `phoenix rollout observations` shows: what was seen, for people, programs and `phoenix replay`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from phoenix_orch.cli import records, tables
from phoenix_orch.cli.options import Output
from phoenix_orch.cli.output import GAVE_UP, columns, emit, without_empty
from phoenix_orch.cli.reaching import reading
from phoenix_orch.health_validator import explain, histogram
from phoenix_orch.health_validator.observation import Arm, Observation, Quality
from phoenix_orch.health_validator.recording import Header, Recording, lines
from phoenix_orch.health_validator.resting import is_rest
from phoenix_orch.kernel.text import escaped
from phoenix_orch.orchestrator.cluster.access import Access


def show(
    there: Access | None,
    data_dir: Path,
    name: str,
    *,
    release: int | None,
    since: str | None,
    output: Output | None,
) -> None:
    """Of one release, the last where none is named, or all since then. `output`: None for JSON lines."""
    with reading(there, data_dir) as client:
        speed = client.speed()
        if since is None:
            record = records.of_release(client, name, release)
        else:
            spec = client.rollout(name).rollout.spec
            found = tuple(records.since(client, name, since))
            record = Recording(name, Header(rollout=name, spec=spec), found)
    if output is None:
        for line in lines(record):
            print(escaped(line))
        return
    emit(output, record.observations, _table(record.observations), speed=speed)


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

"""`phoenix calibrate`: stable released against itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phoenix_orch.cli import reaching, records
from phoenix_orch.cli.options import UNSET, DataDir, Output, OutputOption
from phoenix_orch.cli.output import columns, emit
from phoenix_orch.cli.progress import working
from phoenix_orch.health_validator import explain as words
from phoenix_orch.health_validator.calibrate import Calibration
from phoenix_orch.health_validator.calibrate import calibrate as calibrated
from phoenix_orch.health_validator.observation import Observation
from phoenix_orch.health_validator.recording import Header, Recording
from phoenix_orch.health_validator.resting import past
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.rollout.spec import RolloutSpec


def calibrate(  # noqa: PLR0917 - one parameter for each option
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The rollout whose stable is released.")
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", metavar="FILE", help="Recordings instead; may be repeated."),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            metavar="P",
            help="A file with phases and policy, FILE#ROLLOUT, `statistical` or `literal`.",
            show_default="the rollout's own",
        ),
    ] = None,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="How much of the past: a moment, or a length.")
    ] = "24h",
    runs: Annotated[int, typer.Option("--runs", metavar="N", min=1, max=100_000, help="So many.")] = 200,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="The same gives the same again.")] = 1,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Release stable against itself: false rollbacks and dispersion.

    The past of stable is split at random into a pretended canary and the rest. Whatever is taken back
    was fine. Says how far requests are from failing independently, too.
    """
    if (name is None) == (not file):
        raise Invalid("name a rollout, or recordings with -f", remedy="for example: phoenix calibrate web")
    with working("releasing stable against itself") as told:
        record = _live(name, since, data_dir) if name is not None else _recorded(file or [])
        spec = records.policy(policy, record)[1]

        def done(count: int) -> None:
            told(f"{count} of {runs}")

        found = calibrated(spec, record.past, runs=runs, seed=seed, told=done)
    emit(output, found, _text(found))


def _live(name: str, since: str, data_dir: Path) -> Recording:
    with reaching.client(data_dir) as client:
        rollout = client.rollout(name).rollout
        found = records.since(client, name, since)
    header = Header(rollout=name, spec=rollout.spec)
    return Recording(name, header, (), past=past(found, rollout.status.stable))


def _recorded(files: list[Path]) -> Recording:
    """All that the files know of stable, in the order of time."""
    found = records.from_files(files)
    everything: list[Observation] = []
    for record in found:
        everything += [*past(record.past), *past(record.observations)]
    everything.sort(key=lambda observation: observation.t1)
    specs: list[RolloutSpec] = [one.header.spec for one in found if one.header.spec is not None]
    name = found[0].header.rollout if found else ""
    header = Header(rollout=name, spec=specs[-1] if specs else None)
    return Recording(", ".join(map(str, files)), header, (), past=tuple(everything))


def _text(found: Calibration) -> str:
    percent = words.percent
    span = words.interval(found.lower, found.upper)
    said = f"{found.rolled_back} of {found.runs} releases of what is stable anyway would have been taken back"
    half = f", half of them within {words.length(found.median)}" if found.median is not None else ""
    lines = [
        f"{said} = {percent(found.rate)} (95 % interval {span}), gate {found.gate}",
        f"  promoted {found.promoted}{half}",
        f"  undecided {found.undecided}",
    ]
    if found.blamed:
        rows = [(words.title(item.metric), str(item.runs), percent(item.rate)) for item in found.blamed]
        lines += ["", "Blamed", columns(("METRIC", "RUNS", "RATE"), rows, empty="", indent=2)]
        rows = [(phase, str(count), percent(count / found.runs)) for phase, count in found.phases.items()]
        lines += ["", "In phase", columns(("PHASE", "RUNS", "RATE"), rows, empty="", indent=2)]
    lines += ["", "Dispersion (1: requests are independent)", _dispersion(found), ""]
    length = words.length(found.period)
    lines.append(
        f"from {length} of stable with {words.number(found.requests)} requests; split: {found.split}"
    )
    if found.rounds > 1:
        lines.append(
            f"one walk is {found.rounds:.1f} times as long as that past, so it was gone through again"
        )
    lines.append("runs overlap: when the past is short the interval is narrower than it should be")
    return "\n".join(lines)


def _dispersion(found: Calibration) -> str:
    if not found.windows:
        return "  too little past to know it; the policy's default is used"
    rows = [("errors", words.percent(found.error_rate), f"{found.dispersion or 1:.2f}")]
    rows += [
        (f"slower than {words.seconds(edge.seconds)}", words.percent(edge.slower), f"{edge.dispersion:.2f}")
        for edge in found.edges
    ]
    return columns(("METRIC", "SHARE", "DISPERSION"), rows, empty="", indent=2)

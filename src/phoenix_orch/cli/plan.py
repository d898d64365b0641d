"""`phoenix plan`: how long each phase needs to prove its limits, and whether stable keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phoenix_orch.cli import reaching, records
from phoenix_orch.cli.options import DEFAULT_FILE, UNSET, DataDir, Output, OutputOption
from phoenix_orch.cli.output import columns, emit
from phoenix_orch.health_validator import explain as words
from phoenix_orch.health_validator.foreseen import End, about
from phoenix_orch.health_validator.plan import Fit, Past, Plan, Prospect, stable_past, unattainable
from phoenix_orch.health_validator.plan import plan as planned
from phoenix_orch.health_validator.recording import Header, Recording
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.units import parse_ratio
from phoenix_orch.orchestrator import released
from phoenix_orch.rollout.spec import RolloutSpec

SUPPOSED = 10**9
"""Requests that a supposed error rate stands on: it is meant to be exact."""


def plan(  # noqa: PLR0917 - one parameter for each option
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="The limits: a phoenix.yaml, FILE#ROLLOUT, or one rollout's fields.",
            show_default="phoenix.yaml, or those of --from",
        ),
    ] = None,
    rps: Annotated[
        float | None,
        typer.Option("--rps", metavar="N", min=0.001, help="Requests per second of all users together."),
    ] = None,
    known: Annotated[
        str | None,
        typer.Option("--from", metavar="NAME", help="Traffic and stable's past as this rollout saw them."),
    ] = None,
    error_rate: Annotated[
        str | None,
        typer.Option("--error-rate", metavar="P", help="Suppose that stable fails so often: 0.02%."),
    ] = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """How long each phase needs to prove its limits.

    Says for every limit whether stable keeps it, too: one that stable breaks would take every release
    back, and `rollout start` refuses it.
    """
    if rps is None and known is None:
        raise Invalid(
            "the traffic is not known: neither --rps nor --from is given",
            remedy="phoenix plan --rps 50, or --from NAME for what a rollout has seen",
        )
    if error_rate is not None and known is not None:
        raise Invalid("--error-rate and --from exclude each other", remedy="leave one of them out")
    spec, past, speed = _known(file, known, data_dir)
    if error_rate is not None:
        past = _supposed(error_rate)
    found = planned(spec, past, rate=rps)
    emit(output, found, _text(found), speed=speed)


def _known(file: str | None, name: str | None, data_dir: Path) -> tuple[RolloutSpec, Past, float]:
    """Limits, stable's past, and the speed of the clock that both are told by."""
    if name is None:
        return _spec(file, ""), Past(), 1.0
    with reaching.client(data_dir) as client:
        view = client.rollout(name)
        spec = view.rollout.spec if file is None else _spec(file, name)
        history = spec.policy.statistical.history
        seen = client.observations(name, since=view.at - history, limit=released.LOG)
    stable = view.rollout.status.stable or ""
    return spec, stable_past(seen, stable, spec.policy.statistical), view.speed


def _spec(file: str | None, name: str) -> RolloutSpec:
    record = Recording("", Header(rollout=name), ())
    return records.policy(file or str(DEFAULT_FILE), record)[1]


def _supposed(text: str) -> Past:
    try:
        rate = parse_ratio(text)
    except ValueError as error:
        raise Invalid(f"--error-rate: {error}", remedy="for example --error-rate 0.02%") from None
    return Past(requests=SUPPOSED, errors=round(rate * SUPPOSED))


def _text(found: Plan) -> str:
    header = (
        "PHASE",
        "WEIGHT",
        "TIME",
        "LIMIT",
        "CANARY/S",
        "NEEDS",
        "LIKELY",
        "PROVEN",
        "STABLE",
        "OUTLOOK",
    )
    parts = [columns(header, [_row(item) for item in found.prospects], empty="no phase has a limit"), ""]
    rate = f"{words.rate(found.rate)} requests/s in all" if found.rate is not None else "traffic unknown"
    known = "no history of stable: requests count as independent ones"
    if found.dispersion_known:
        known = f"dispersion of errors {found.dispersion:.2g}, measured"
    parts.append(f"{rate}; {known}")
    parts.append("NEEDS: requests that prove the limit if none is bad; if the canary is as good as stable")
    parts.append("LIKELY: enough to go on; PROVEN: the limit itself; both at stable's own rate")
    if found.past.seconds:
        parts += [f"! {unattainable(item)}" for item in found.broken]
    return "\n".join(parts)


def _row(item: Prospect) -> tuple[str, ...]:
    return (
        item.phase,
        f"{item.weight}%",
        words.length(item.duration),
        f"{words.title(item.metric)} {words.shown(item.metric, item.limit)}",
        words.rate(item.canary_rate) if item.canary_rate is not None else "",
        f"{_count(item.clean)}; {_count(item.needed)}",
        about(item.likely_after.total_seconds()) if item.likely_after is not None else "never",
        about(item.proven_after.total_seconds()) if item.proven_after is not None else "never",
        f"{words.percent(item.observed)}" if item.observed is not None else "",
        _outlook(item),
    )


def _count(number: int | None) -> str:
    return words.number(number) if number is not None else "never"


def _outlook(item: Prospect) -> str:
    if item.fit is Fit.BROKEN:
        return "not attainable"
    if item.fit is Fit.DOUBTFUL:
        return "doubtful: stable is beyond it"
    if item.proven_after is not None and item.proven_after <= item.duration:
        return "proven in time"
    if item.proven_after is not None and item.proven_after <= item.longest:
        return "proven in the extension"
    if item.likely_after is not None and item.likely_after <= item.duration:
        return "likely in time"
    if item.likely_after is not None and item.likely_after <= item.longest:
        return "likely in the extension"
    if item.otherwise is None or item.otherwise_after is None:
        return "too little traffic"
    return f"too little traffic: {_ENDS[item.otherwise]} after {words.length(item.otherwise_after)}"


_ENDS = {
    End.THIN: "goes on, judged on few requests,",
    End.PAUSE: "a person decides",
    End.PROMOTE: "goes on by onNoDecision",
    End.ROLLBACK: "taken back by onNoDecision",
    End.HOLD: "held",
}

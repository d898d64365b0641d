"""`phoenix replay`: what a policy would have done on what was recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from phoenix_orch.cli import chart_file, records
from phoenix_orch.cli.options import Output, OutputOption
from phoenix_orch.cli.output import GAVE_UP, Row, columns, emit, without_empty
from phoenix_orch.cli.progress import working
from phoenix_orch.health_validator import explain, placing
from phoenix_orch.health_validator.explanation import explained
from phoenix_orch.health_validator.recording import Recording
from phoenix_orch.health_validator.sources.prometheus_range import Queries, fetch
from phoenix_orch.health_validator.whatif import Replayed, summary
from phoenix_orch.kernel.errors import Invalid

NOTE = (
    "The walk is the record's: the canary had the weights that were applied then, and what other weights\n"
    "would have shown is not known. Limits, durations and gate are the policy's."
)


def replay(  # noqa: PLR0917 - one parameter for each option
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Recordings, JSON lines or CSV; - is standard input."),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            metavar="P",
            help="A file with phases and policy, FILE#ROLLOUT, `statistical` or `literal`.",
            show_default="the record's own",
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="P", help="A second policy, beside the first.")
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option("--chart", metavar="FILE", help="Draw the first policy's view as .png or .svg."),
    ] = None,
    output: OutputOption = Output.TABLE,
    url: Annotated[
        str | None,
        typer.Option("--prometheus", metavar="URL", help="Ask this Prometheus for a release."),
    ] = None,
    canary_query: Annotated[
        str | None, typer.Option(metavar="Q", help="Canary's request counters, without rate().")
    ] = None,
    canary_errors: Annotated[str | None, typer.Option(metavar="Q", help="Those of them that failed.")] = None,
    canary_latency: Annotated[
        str | None, typer.Option(metavar="Q", help="Its latency histogram's `_bucket` series.")
    ] = None,
    stable_query: Annotated[str | None, typer.Option(metavar="Q", help="The same of stable.")] = None,
    stable_errors: Annotated[str | None, typer.Option(metavar="Q", help="The same of stable.")] = None,
    stable_latency: Annotated[str | None, typer.Option(metavar="Q", help="The same of stable.")] = None,
    start: Annotated[str, typer.Option(metavar="TIME", help="A moment, or 2h for two hours ago.")] = "2h",
    end: Annotated[str, typer.Option(metavar="TIME", help="A moment, or 0s for now.")] = "0s",
    step: Annotated[str, typer.Option(metavar="DURATION", help="Length of one interval.")] = "10s",
) -> None:
    """What a policy would have done on recorded releases.

    Reads what `phoenix rollout observations -o jsonl` writes, a CSV of counts, or a Prometheus.
    """
    canary = _queries(url, "canary", canary_query, canary_errors, canary_latency)
    stable = _queries(url, "stable", stable_query, stable_errors, stable_latency)
    if chart is not None:
        chart_file.check(chart)
    with working("reading") as told:
        found = records.from_files(files or [])
        if url is not None and canary is not None:
            now = datetime.now(UTC)
            found.append(
                fetch(
                    url,
                    canary,
                    stable,
                    start=records.moment(start, now),
                    end=records.moment(end, now),
                    step=_step(step),
                    told=told,
                )
            )
        if not found:
            raise Invalid(
                "nothing to replay: neither a FILE nor --prometheus is given",
                remedy="phoenix rollout observations NAME -o jsonl > release.jsonl, then replay that",
            )
        results = [result for record in found for result in _replayed(record, policy, against, told)]
    if chart is not None:
        _draw(chart, found, policy)
    emit(output, results, _text(results))


def _replayed(
    record: Recording, policy: str | None, against: str | None, told: Callable[[str], None]
) -> Iterator[Replayed]:
    """Under each policy; where the record does not tell its weights, both see those of the first one."""
    chosen = records.policies(record, policy, against)
    placed = placing.placed(record, [step.weight for step in chosen[0][1].steps()])
    for name, spec in chosen:
        told(f"{record.source} under {name}")
        yield summary(placed, spec, name)


def _draw(chart: Path, found: Sequence[Recording], policy: str | None) -> None:
    if len(found) > 1:
        raise Invalid(f"{len(found)} releases do not fit into one picture", remedy="name a file with one")
    name, spec = records.policy(policy, found[0])
    chart_file.write(chart, explained(found[0], spec), name=f"{found[0].source} under {name}")


def _queries(
    url: str | None, who: str, requests: str | None, errors: str | None, latency: str | None
) -> Queries | None:
    if url is None:
        if requests or errors or latency:
            raise Invalid(f"--{who}-… needs --prometheus URL", remedy="name the server to ask")
        return None
    if requests is None:
        if who == "canary" or errors or latency:
            raise Invalid(
                f"--prometheus needs --{who}-query",
                remedy=f"for example --{who}-query 'http_requests_total{{deployment=\"web-{who}\"}}'",
            )
        return None
    return Queries(requests, errors, latency)


def _step(text: str) -> timedelta:
    step = records.length(text, "--step")
    if step < timedelta(seconds=1):
        raise Invalid("--step is shorter than a second", remedy="give the scrape interval, 10s for example")
    return step


def _text(results: Sequence[Replayed]) -> str:
    header: Row = ("RECORD", "POLICY", "GATE", "OUTCOME", "AFTER", "AT", "EXPOSED", "FAILED")
    header = (*header, GAVE_UP, "RECORDED", "REASON")
    rows = [
        (
            found.source,
            found.policy,
            found.gate,
            found.outcome.value,
            explain.length(found.after) if found.after is not None else "",
            f"{found.weight}% {found.phase}",
            explain.number(found.requests),
            explain.number(found.failed),
            explain.number(found.abandoned),
            found.recorded,
            found.reason,
        )
        for found in results
    ]
    parts = [columns(*without_empty(header, rows, GAVE_UP), empty="")]
    if len({found.source for found in results}) == 1:
        for found in results:
            parts += ["", f"{found.policy}, step by step", _steps(found)]
    parts += ["", NOTE]
    return "\n".join(parts)


def _steps(found: Replayed) -> str:
    header = ("STEP", "WEIGHT", "STAYED", "READY AFTER", "REQUESTS", "FAILED", GAVE_UP, "LAST WORD", "REASON")
    rows = [
        (
            step.phase,
            f"{step.weight}%",
            explain.length(step.lasted),
            explain.length(step.ready_after) if step.ready_after is not None else "not in it",
            explain.number(step.requests),
            explain.number(step.failed),
            explain.number(step.abandoned),
            step.last,
            step.reason,
        )
        for step in found.steps
    ]
    return columns(*without_empty(header, rows, GAVE_UP), empty="no step was reached", indent=2)

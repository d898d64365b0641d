"""`phoenix drill`: rehearses recovery itself, so that it needs no Phoenix that runs."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phoenix_orch.cli import drill_pages as pages
from phoenix_orch.cli import reaching
from phoenix_orch.cli.cluster_backups import cluster_backups, of_cluster
from phoenix_orch.cli.interrupted import interruptible
from phoenix_orch.cli.options import (
    UNSET,
    DataDir,
    DryRun,
    Output,
    OutputOption,
    Reason,
    default_data_dir,
)
from phoenix_orch.cli.output import emit, say, tell
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.audited_here import audited
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.config import load
from phoenix_orch.orchestrator.kept_config import read_kept
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.drill_report import Kind, Report, markdown
from phoenix_orch.runtime.logs import configure_logs
from phoenix_orch.runtime.users import name_of

if TYPE_CHECKING:
    from phoenix_orch.orchestrator.drills import Drills

app = typer.Typer(
    name="drill",
    help="Rehearse recovery, and show how it went.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
FAILED = 1
"""Exit status of a drill that did not pass."""


class Format(StrEnum):
    MD = "md"
    JSON = "json"


def _ids(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids for Tab; none where the storage does not answer. A completion never complains."""
    try:
        given = ctx.params.get("data_dir") or ctx.find_root().obj
        here = given if isinstance(given, Path) and given != UNSET else default_data_dir()
        found = [one.id for one in _drills(here, ctx.params.get("file")).reports()[0]]
    except Exception:  # noqa: BLE001 - nothing may spoil the command line that is being typed
        return []
    return [name for name in ["latest", *found] if name.startswith(incomplete)]


Id = Annotated[
    str, typer.Argument(metavar="ID", help="Id, the beginning of one, or `latest`.", autocompletion=_ids)
]
File = Annotated[
    Path | None,
    typer.Option(
        "--file", "-f", metavar="FILE", help="A phoenix.yaml that names the storage; left out: as applied."
    ),
]


@app.command()
def run(  # noqa: PLR0917 - one parameter for each option
    kind: Annotated[Kind, typer.Argument(help="daily, weekly or monthly.")],
    identity: Annotated[
        Path | None,
        typer.Option("--identity", "-i", metavar="FILE", help="The offline key, for a monthly drill."),
    ] = None,
    seed: Annotated[
        str, typer.Option("--seed", metavar="TEXT", help="Draw the copies of that drill again (weekly).")
    ] = "",
    scratch: Annotated[
        Path | None,
        typer.Option("--scratch", metavar="DIR", help="Where copies are restored; emptied afterwards."),
    ] = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    file: File = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> int:
    """Rehearse recovery now and keep the report; exit status 1 where it did not pass.

    daily: backups are fresh, there, and the newest opens · weekly: a copy of each age, drawn by lot, is
    restored aside · monthly: everything from the storage and the offline key alone, timed. Nothing that runs
    is touched.
    """
    from phoenix_orch.orchestrator.drills import Asked, DrillFailedError, judged  # noqa: PLC0415

    drills = _drills(data_dir, file)
    if dry_run:
        planned = drills.planned(Asked(kind, seed, identity, scratch))
        emit(output, asdict(planned), pages.planned(kind, planned))
        return FAILED if any(one.problem for one in planned.copies) else 0
    told = _tell if output is Output.TABLE else (lambda _: None)
    report: Report | None = None
    try:
        with (
            interruptible("nothing was recorded, and nothing is left in the scratch place"),
            audited(Layout(data_dir), f"drill.{kind.value}", "drill", actor=_me(), reason=reason) as done,
        ):
            report = drills.run(Asked(kind, seed, identity, scratch, told=told))
            done.update(id=report.id, passed=report.passed, rto=report.rto)
            judged(report)
    except DrillFailedError:
        assert report is not None  # only a report is judged
    emit(output, report, pages.page(report, drills.reports()[0]))
    return 0 if report.passed else FAILED


@app.command("list")
def list_drills(
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="The newest so many.")] = 20,
    file: File = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> int:
    """The newest drills, the newest first; exit status 1 where a report is not as it was written."""
    reports, faults = _drills(data_dir, file).reports(limit)
    found = {
        "drills": [one.model_dump(mode="json", by_alias=True, exclude={"steps"}) for one in reports],
        "faults": faults,
    }
    emit(output, found, pages.listing(reports, faults))
    return FAILED if faults else 0


@app.command()
def show(
    drill: Id = "latest", file: File = None, output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET
) -> None:
    """One drill: its steps with their times, RPO and RTO against their targets, and why it did not pass."""
    drills = _drills(data_dir, file)
    report = drills.one(drill)
    emit(output, report, pages.page(report, drills.reports()[0]))


@app.command("report")
def write_report(
    drill: Id = "latest",
    form: Annotated[Format, typer.Option("--format", help="Markdown or JSON.")] = Format.MD,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Where to; left out: standard output.")
    ] = None,
    file: File = None,
    data_dir: DataDir = UNSET,
) -> None:
    """The report of a drill, for who asks for evidence."""
    drills = _drills(data_dir, file)
    report = drills.one(drill)
    if form is Format.JSON:
        text = f"{report.model_dump_json(by_alias=True, indent=2)}\n"
    else:
        text = markdown(report, drills.reports()[0])
    if to is None:
        sys.stdout.write(text)
        return
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Invalid(f"{to} cannot be written: {error.strerror}", remedy="name another file") from error
    say(f"the report of {report.kind.value} drill {report.id} is in {to}", to=sys.stderr)


def _drills(data_dir: Path, file: Path | None) -> Drills:
    """By the file that is named, else by what was applied last."""
    from phoenix_orch.orchestrator.backups import Backups  # noqa: PLC0415 - half a second
    from phoenix_orch.orchestrator.drills import Drills  # noqa: PLC0415

    layout = Layout(data_dir)
    if file is not None and of_cluster(file):
        configure_logs()
        return Drills(cluster_backups(file, Access(), layout, by=_me()), layout, by=_me())
    if file is None:
        reaching.here_only("drills and their backups", "name its configuration with --file")
    config = load(file) if file is not None else read_kept(layout.config)
    if config is None or config.backup is None:
        raise Invalid(
            "backups are not configured" if file is None else f"{file} has no section backup",
            remedy="`phoenix keys init` makes keys and says what to put into phoenix.yaml; "
            "name the file with --file",
        )
    configure_logs()
    return Drills(Backups(config.backup, layout, by=_me()), layout, by=_me())


def _tell(step: str) -> None:
    if sys.stderr.isatty():
        tell(f"{step} ...", to=sys.stderr)


def _me() -> str:
    return name_of(os.getuid())

"""`phoenix audit`: reads the files of a data directory, or the store of a cluster, where no Phoenix has to
run; or asks the Phoenix of --server."""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import typer

from phoenix_orch.cli import reaching
from phoenix_orch.cli.audit_sources import WALK, Asked, Opened, Source
from phoenix_orch.cli.cluster_options import STORE_VARIABLE, or_in_cluster
from phoenix_orch.cli.options import UNSET, DataDir, DryRun, Output, OutputOption
from phoenix_orch.cli.output import columns, emit
from phoenix_orch.cli.records import moment
from phoenix_orch.client.client import TIMEOUT
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.text import counted
from phoenix_orch.kernel.units import format_duration, parse_duration
from phoenix_orch.orchestrator.audit_views import AuditFault, AuditRecord, AuditVerified
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.runtime.users import name_of
from phoenix_orch.security.audit_chain import Entry, Outcome
from phoenix_orch.security.audit_log import AuditLog, AuditRecords
from phoenix_orch.security.audit_query import Query

app = typer.Typer(
    name="audit",
    help="What was done by whom: list, verify, export, prune.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
BROKEN = 1
"""Exit status for a log that does not hold."""
RETENTION = timedelta(days=400)
FIELDS = tuple(field.alias or name for name, field in AuditRecord.model_fields.items())


class Format(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"


Actor = Annotated[str, typer.Option("--actor", metavar="PATTERN", help="Of these only, as ann or ci-*.")]
Action = Annotated[str, typer.Option("--action", metavar="PATTERN", help="As rollout.abort or token.*.")]
Target = Annotated[str, typer.Option("--target", metavar="PATTERN", help="As rollout/shop.")]
Since = Annotated[str | None, typer.Option("--since", metavar="WHEN", help="A moment, or 2h for 2 h ago.")]
Until = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="The same, for the end.")]


@app.command("list")
@or_in_cluster(log=True)
def list_records(  # noqa: PLR0917 - one parameter for each option
    actor: Actor = "",
    action: Action = "",
    target: Target = "",
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="The newest so many.")] = 50,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    there: Access | None = None,
) -> None:
    """The newest records, the newest last."""
    with _source(data_dir, there) as source:
        found = source.newest(limit, _query(actor, action, target, since, until))
    emit(output, found, _table(found))


def _table(found: Sequence[AuditRecord]) -> str:
    rows = [
        (
            str(one.seq),
            f"{one.at:%Y-%m-%dT%H:%M:%SZ}",
            one.actor,
            one.action,
            one.target,
            one.outcome,
            one.reason,
        )
        for one in found
    ]
    header = ("SEQ", "TIME", "ACTOR", "ACTION", "TARGET", "OUTCOME", "REASON")
    return columns(header, rows, empty="no such records", whole=False)


@app.command()
@or_in_cluster(log=True)
def verify(
    head: Annotated[
        str | None,
        typer.Option(
            "--head", metavar="SEQ:HASH", help="An earlier `phoenix audit head`, which has to be in it."
        ),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--directory", metavar="DIR", help="A copy of the log, in place of the log."),
    ] = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    there: Access | None = None,
) -> int:
    """Check every record against the one before it; exit status 1 where the log does not hold.

    Names file, line and record of each fault.
    """
    if directory is not None:
        found = Opened(_there(directory)).verify(head)
        if found.holds and not found.records:
            raise Invalid(
                f"there is no record of an audit log in {directory}",
                remedy="name the folder that holds its files: `audit` in the data directory, or a copy of it",
            )
    else:
        with _source(data_dir, there, timeout=WALK) as source:
            found = source.verify(head)
    emit(output, found, _said(found))
    return 0 if found.holds else BROKEN


def _said(found: AuditVerified) -> str:
    faults = [_told(one) for one in found.faults]
    if found.holds:
        return "\n".join(
            [
                f"the log holds: {counted(found.records, 'record')} from {found.first} to {found.last.seq}",
                *faults,
            ]
        )
    return "\n".join([f"the log does not hold; of {counted(found.records, 'record')}:", *faults])


def _told(fault: AuditFault) -> str:
    return f"{fault.file}, line {fault.line}, record {fault.seq}: {fault.kind}: {fault.detail}"


@app.command("head")
@or_in_cluster(log=True)
def show_head(
    output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET, there: Access | None = None
) -> None:
    """The end of the log as SEQ:HASH. Note it elsewhere: `verify --head` tells whether it is still there."""
    with _source(data_dir, there) as source:
        last = source.head()
    emit(output, last, f"{last.seq}:{last.hash}")


@app.command()
@or_in_cluster(log=True)
def export(  # noqa: PLR0917 - one parameter for each option
    actor: Actor = "",
    action: Action = "",
    target: Target = "",
    since: Since = None,
    until: Until = None,
    form: Annotated[Format, typer.Option("--format", help="JSON lines or CSV.")] = Format.JSONL,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Where to; left out: standard output.")
    ] = None,
    data_dir: DataDir = UNSET,
    there: Access | None = None,
) -> None:
    """All records, oldest first, as JSON lines or CSV."""
    wanted = _query(actor, action, target, since, until)
    with _source(data_dir, there) as source:
        _write(_exported(source.all(wanted), form), to)


def _write(lines: Iterator[str], to: Path | None) -> None:
    if to is None:
        for line in lines:
            print(line)
        return
    try:
        descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise Invalid(f"{to} cannot be written: {error.strerror}", remedy="name another file") from error


def _exported(records: Iterator[AuditRecord], form: Format) -> Iterator[str]:
    """A line for each record; ASCII, so that nothing in it steers a terminal."""
    if form is Format.CSV:
        yield ",".join(FIELDS)
    for record in records:
        data = record.model_dump(mode="json", by_alias=True)
        yield json.dumps(data) if form is Format.JSONL else _row(data)


def _row(data: dict[str, object]) -> str:
    """A cell that a spreadsheet would take for a formula begins with an apostrophe."""
    out = io.StringIO()
    cells = ["" if (value := data[name]) is None else value for name in FIELDS]
    texts = [cell if isinstance(cell, str | int) else json.dumps(cell) for cell in cells]
    harmless = [
        f"'{text}" if isinstance(text, str) and text[:1] in "=+-@\t\r" and text else text for text in texts
    ]
    csv.writer(out, lineterminator="").writerow(harmless)
    return out.getvalue()


@app.command()
@or_in_cluster(log=True)
def prune(
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="DURATION", help="How long records are kept.")
    ] = format_duration(RETENTION),
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
    there: Access | None = None,
) -> None:
    """Remove whole files of which every record is older; the rest still verifies, and says what went."""
    try:
        before = datetime.now(UTC) - parse_duration(older_than)
    except (ValueError, OverflowError) as error:
        raise Invalid(str(error), remedy="write 400d") from None
    if there is None and reaching.elsewhere():
        raise Invalid(
            "another machine's audit log is not pruned from here",
            remedy="its audit.retention does it once a day; or type it there",
        )
    log = _log(data_dir, there)
    gone = log.prunable(before)
    if not dry_run and gone:
        asked = Entry(
            at=datetime.now(UTC),
            actor=name_of(os.getuid()),
            action="",
            target="audit",
            reason=f"older than {older_than}",
            outcome=Outcome.DONE,
            source="command line",
        )
        gone = log.prune(before, asked)
    told = f"{'would remove' if dry_run else 'removed'} {counted(gone, 'record')}"
    emit(output, {"records": gone, "before": before.isoformat(), "dryRun": dry_run}, told)


@contextlib.contextmanager
def _source(data_dir: Path, there: Access | None, *, timeout: float = TIMEOUT) -> Iterator[Source]:
    """Of the Phoenix of --server, unless a cluster's own store is named; else of this machine."""
    if there is None and reaching.elsewhere():
        with reaching.client(data_dir, timeout=timeout) as client:
            yield Asked(client)
    else:
        yield Opened(_log(data_dir, there))


def _log(data_dir: Path, there: Access | None) -> AuditRecords:
    """Of this machine, or the one that replicas share in the store of a cluster."""
    if there is not None:
        if there.store is None:
            raise Invalid(
                "the audit log of a cluster is in its Redis or Valkey",
                remedy=f"give --store redis://HOST, or {STORE_VARIABLE}; kubectl port-forward reaches it",
            )
        target = importlib.import_module("phoenix_orch.kube.config").load(
            there.kubeconfig, context=there.context, namespace=there.namespace
        )
        recording = importlib.import_module("phoenix_orch.orchestrator.cluster.recording")
        return cast("AuditRecords", recording.audit_log(there.store, target.namespace))
    return _there(Layout(data_dir).audit)


def _there(directory: Path) -> AuditLog:
    if not directory.is_dir():
        raise Invalid(
            f"there is no audit log in {directory}",
            remedy="name the data directory of your Phoenix with --data-dir",
        )
    return AuditLog(directory)


def _query(actor: str, action: str, target: str, since: str | None, until: str | None) -> Query:
    now = datetime.now(UTC)
    begin, end = (moment(text, now) if text is not None else None for text in (since, until))
    return Query(actor, action, target, begin, end)

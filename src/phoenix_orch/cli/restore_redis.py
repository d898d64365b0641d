"""`phoenix restore plan redis`, `run redis`, `status`, `abort`: from a storage and a key file alone.

Each says what to type next, so that a person at night needs three commands and remembers none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from phoenix_orch.cli.backup_config import moment
from phoenix_orch.cli.interrupted import interruptible
from phoenix_orch.cli.option_groups import grouped
from phoenix_orch.cli.options import UNSET, DataDir, DryRun, Output, OutputOption, Reason
from phoenix_orch.cli.output import columns, data, emit, tell
from phoenix_orch.cli.progress import working
from phoenix_orch.cli.restore_options import Copy, Server, Serving, how
from phoenix_orch.cli.second_person import BreakGlass, asking
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.text import counted
from phoenix_orch.kernel.units import format_size
from phoenix_orch.orchestrator.redis_restore import RedisRestore
from phoenix_orch.recovery.restore.journal import ENDED, TOUCHED, Entry, State
from phoenix_orch.recovery.restore.plan import RestorePlan
from phoenix_orch.runtime.logs import configure_logs
from phoenix_orch.runtime.users import name_of

Id = Annotated[str, typer.Argument(metavar="ID", help="Of the restore, or its beginning.")]


@grouped
def plan(  # noqa: PLR0917 - options, given by name
    server: Server,
    copy: Copy,
    serving: Serving,
    dead: Annotated[
        bool, typer.Option("--target-is-dead", help="Take no safety copy: what it holds is worth nothing.")
    ] = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> int:
    """Look at a backup and at the server that it goes into, and tell what would be done. Changes nothing."""
    if copy.as_of is not None and copy.backup != "latest":
        raise Invalid("--backup and --as-of both say which backup", remedy="give one of them")
    reached, as_of = how(copy, server, serving), moment(copy.as_of)
    with working("looking at the backup and the server") as show:
        found = _restores(data_dir, told=show).plan(reached, copy.backup, as_of, dead=dead)
    told = {**data(found), "hash": found.hash, "blocked": bool(found.blocked)}
    emit(output, told, _plan(found))
    return 1 if found.blocked else 0


def run(  # noqa: PLR0917 - one parameter for each option
    name: Id,
    confirm: Annotated[
        str, typer.Option("--confirm", metavar="HASH", help="What `phoenix restore plan redis` told.")
    ] = "",
    reason: Reason = "",
    break_glass: BreakGlass = "",
    dry_run: DryRun = False,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> int:
    """Do what was planned. After a crash the same command goes on where it was.

    Over live data it takes a second person, where a Phoenix runs and somebody else may approve. --dry-run
    looks at everything once more and changes nothing; exit status 1 where something blocks.
    """
    if dry_run:
        with working("looking at the backup and the server") as show:
            found = _restores(data_dir, told=show).look(name, confirm)
        told = {**data(found), "hash": found.hash, "blocked": bool(found.blocked), "dryRun": True}
        emit(output, told, f"{_plan(found)}\nnothing was changed")
        return 1 if found.blocked else 0
    if not confirm:
        raise Invalid(
            "a restore is run with the hash of its plan", remedy=f"read it: phoenix restore status {name}"
        )
    configure_logs()
    restores = RedisRestore(
        data_dir,
        os.environ,
        by=name_of(os.getuid()),
        tell=tell if output is Output.TABLE else _nothing,
        agree=asking(data_dir, reason=reason, break_glass=break_glass),
        reason=break_glass or reason,
    )
    with interruptible(f"see how far it is, and go on or end it: phoenix restore status {name}"):
        done = restores.run(name, confirm)
    emit(output, done, f"done: {done.message}\nlook: phoenix restore status {done.plan.id}")
    return 0


def status(
    name: Annotated[str | None, typer.Argument(metavar="[ID]", help="Left out: all.")] = None,
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """How far restores have come, and what to type next."""
    journal = _restores(data_dir).journal
    if name is None:
        found = journal.all()
        rows = [
            (e.plan.id, e.state.value, e.plan.backup, e.plan.target, f"{e.plan.made:%Y-%m-%d %H:%M}")
            for e in reversed(found)
        ]
        table = columns(("ID", "STATE", "BACKUP", "TARGET", "PLANNED"), rows, empty="no restore was planned")
        emit(output, found, table)
        return
    entry = journal.read(name)
    running = entry.state not in ENDED and journal.running(entry.plan.id)
    emit(output, entry, "\n".join(_status(entry, running=running)))


def abort(name: str, reason: str, output: Output, data_dir: Path, *, dry_run: bool) -> None:
    """The server takes writes again, with the data that it has."""
    if dry_run:
        entry = _restores(data_dir).journal.endable(name)
        told = (
            f"{entry.plan.target} would be made a primary"
            if entry.state in TOUCHED
            else "nothing was changed"
        )
        emit(output, entry, f"restore {entry.plan.id} would be aborted: it is {entry.state.value}, {told}")
        return
    done = _restores(data_dir, reason).abort(name)
    emit(output, done, f"aborted: {done.message}")


def _restores(data_dir: Path, reason: str = "", told: Callable[[str], None] = tell) -> RedisRestore:
    configure_logs()
    return RedisRestore(data_dir, os.environ, by=name_of(os.getuid()), tell=told, reason=reason)


def _nothing(_: str) -> None:
    """Whom a program asks, it tells once."""


def _plan(plan: RestorePlan) -> str:
    rows = [(look.weight.value, look.check, look.found) for look in plan.looks]
    lines: Sequence[str] = [
        f"backup {plan.backup} of {plan.component}: {format_size(plan.raw_bytes)} bytes",
        f"as of  {plan.consistency_point:%Y-%m-%d %H:%M:%S} UTC",
        f"into   {plan.target}, which holds {counted(plan.target_keys, 'key')}",
        "",
        columns(("", "CHECK", "FOUND"), rows, empty="", whole=False),
        "",
        *(f"{number}. {step}" for number, step in enumerate(plan.steps, 1)),
        "",
    ]
    if plan.blocked:
        return "\n".join([*lines, *(f"first: {look.remedy}" for look in plan.blocked), "then plan anew"])
    return "\n".join([*lines, f"do it: {_run(plan)}"])


def _run(plan: RestorePlan) -> str:
    return f"phoenix restore run redis {plan.id} --confirm {plan.hash}"


def _status(entry: Entry, *, running: bool) -> list[str]:
    plan = entry.plan
    lines = [f"restore {plan.id}: {entry.state.value}{', a process is at it' if running else ''}"]
    lines += [f"  {words}" for words in entry.told]
    if running or entry.state in ENDED:
        if entry.safety and entry.state is State.DONE:
            lines.append(f"what was there before: backup {entry.safety}")
        return lines
    if entry.state in TOUCHED:
        lines.append(f"{plan.target} may take no writes until this ends")
    lines += [f"go on:  {_run(plan)}", f"or end: phoenix restore abort {plan.id}"]
    return lines

"""`phoenix restore keys`: some keys of a backup of Redis. It counts first; the hash of that does it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from phoenix_orch.cli.backup_config import moment
from phoenix_orch.cli.option_groups import grouped
from phoenix_orch.cli.options import UNSET, DataDir, Output, OutputOption, Reason
from phoenix_orch.cli.output import emit, tell
from phoenix_orch.cli.progress import working
from phoenix_orch.cli.restore_options import Copy, Server, how
from phoenix_orch.cli.second_person import BreakGlass, asking
from phoenix_orch.kernel.text import counted
from phoenix_orch.orchestrator.redis_restore import RedisRestore
from phoenix_orch.recovery.restore.redis_keys import Conflict, Selection
from phoenix_orch.runtime.logs import configure_logs
from phoenix_orch.runtime.users import name_of


@grouped
def keys(  # noqa: PLR0917 - one parameter for each option
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="As SCAN has it: `user:*`.")],
    server: Server,
    copy: Copy,
    conflict: Annotated[
        Conflict, typer.Option("--conflict", help="What happens to a key that is there.")
    ] = Conflict.SKIP,
    prefix: Annotated[str, typer.Option("--prefix", metavar="TEXT", help="For rename-prefix.")] = "",
    database: Annotated[int, typer.Option("--database", metavar="N", min=0, help="Of both servers.")] = 0,
    confirm: Annotated[
        str, typer.Option("--confirm", metavar="HASH", help="Do it; left out: count, and change nothing.")
    ] = "",
    reason: Reason = "",
    break_glass: BreakGlass = "",
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Put keys that match back, each with its TTL, into a server that goes on working.

    What would be written over takes a second person, where a Phoenix runs and somebody else may approve.
    """
    selection = Selection(pattern, database, conflict, prefix)
    configure_logs()
    restores = RedisRestore(
        data_dir,
        os.environ,
        by=name_of(os.getuid()),
        tell=tell if output is Output.TABLE else lambda _: None,
        agree=asking(data_dir, reason=reason, break_glass=break_glass),
        reason=break_glass or reason,
    )
    with working("reading the copy"):
        found = restores.keys(how(copy, server), copy.backup, moment(copy.as_of), selection, confirm)
    verb = "were" if found.done else "would be"
    lines = [
        f"backup {found.backup} has {counted(found.matched, 'key')} of the pattern",
        f"{found.restored:,} {verb} restored, {found.overwritten:,} written over, {found.skipped:,} skipped",
        f"{found.expired:,} are expired",
    ]
    if not found.done:
        lines.append(f"do it: the same command with --confirm {found.hash}")
    emit(output, found, "\n".join(lines))

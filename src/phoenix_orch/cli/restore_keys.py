"""`phoenix restore keys`: some keys of a backup of Redis. It counts first; the hash of that does it."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from phoenix_orch.cli.backup_config import moment
from phoenix_orch.cli.options import UNSET, DataDir, Output, OutputOption
from phoenix_orch.cli.output import data, emit
from phoenix_orch.orchestrator.audited_here import audited
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.redis_restore import How, RedisRestore
from phoenix_orch.recovery.restore.redis_keys import Conflict, Selection
from phoenix_orch.runtime.logs import configure_logs
from phoenix_orch.runtime.users import name_of


def keys(  # noqa: PLR0917 - one parameter for each option
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="As SCAN has it: `user:*`.")],
    to: Annotated[str, typer.Option("--to", metavar="HOST:PORT", help="The server that gets them.")],
    storage: Annotated[
        str, typer.Option("--storage", metavar="PLACE", help="Folder of the backups, or s3://bucket/prefix.")
    ],
    identity: Annotated[
        Path, typer.Option("--identity", metavar="FILE", help="A private key that opens them.")
    ],
    component: Annotated[
        str, typer.Option("--component", metavar="NAME", help="As `redis/cache`.")
    ] = "redis",
    backup: Annotated[
        str, typer.Option("--backup", metavar="ID", help="Which one; left out: the newest that was verified.")
    ] = "latest",
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", metavar="WHEN", help="The newest not later: 2026-11-28T10:00:00Z."),
    ] = None,
    conflict: Annotated[
        Conflict, typer.Option("--conflict", help="What happens to a key that is there.")
    ] = Conflict.SKIP,
    prefix: Annotated[str, typer.Option("--prefix", metavar="TEXT", help="For rename-prefix.")] = "",
    database: Annotated[int, typer.Option("--database", metavar="N", min=0, help="Of both servers.")] = 0,
    signed_by: Annotated[
        list[str] | None,
        typer.Option("--signed-by", metavar="KEY", help="Public key of the machine that took them."),
    ] = None,
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="Of the server.")] = "",
    password_env: Annotated[
        str | None, typer.Option("--password-env", metavar="VARIABLE", help="Holds the server's password.")
    ] = None,
    confirm: Annotated[
        str, typer.Option("--confirm", metavar="HASH", help="Do it; left out: count, and change nothing.")
    ] = "",
    output: OutputOption = Output.TABLE,
    data_dir: DataDir = UNSET,
) -> None:
    """Put keys that match back, each with its TTL, into a server that goes on working."""
    how = How(
        storage=storage if storage.startswith("s3://") else str(Path(storage).expanduser().absolute()),
        identity=str(identity.expanduser().absolute()),
        signed_by=tuple(signed_by or ()),
        component=component,
        target=to,
        user=user,
        password_env=password_env,
    )
    selection = Selection(pattern, database, conflict, prefix)
    configure_logs()
    me = name_of(os.getuid())
    restores = RedisRestore(data_dir, os.environ, by=me, tell=lambda _: None)
    log: AbstractContextManager[dict[str, Any]] = nullcontext({})
    if confirm:
        log = audited(Layout(data_dir), "restore.keys", f"redis/{to}", actor=me)
    with log as told:
        found = restores.keys(how, backup, moment(as_of), selection, confirm)
        told.update(data(found), pattern=pattern, conflict=conflict.value)
    verb = "were" if found.done else "would be"
    lines = [
        f"{found.matched:,} keys of backup {found.backup} match",
        f"{found.restored:,} {verb} restored, {found.overwritten:,} written over, {found.skipped:,} skipped",
        f"{found.expired:,} are expired",
    ]
    if not found.done:
        lines.append(f"do it: the same command with --confirm {found.hash}")
    emit(output, found, "\n".join(lines))

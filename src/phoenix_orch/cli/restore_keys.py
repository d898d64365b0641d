"""`phoenix restore keys`: some keys of a backup of Redis. It counts first; the hash of that does it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from phoenix_orch.cli.backup_config import moment
from phoenix_orch.cli.options import UNSET, DataDir, Output, OutputOption, Reason
from phoenix_orch.cli.output import emit, say
from phoenix_orch.cli.restore_redis import absolute
from phoenix_orch.cli.second_person import BreakGlass, asking
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
    password_file: Annotated[
        Path | None, typer.Option("--password-file", metavar="FILE", help="Holds it in its first line.")
    ] = None,
    tls_ca: Annotated[
        Path | None, typer.Option("--tls-ca", metavar="FILE", help="Reach the server by TLS.")
    ] = None,
    endpoint: Annotated[
        str, typer.Option("--endpoint", metavar="URL", help="Of S3, where it is not AWS.")
    ] = "",
    region: Annotated[str, typer.Option("--region", metavar="NAME", help="Of S3.")] = "us-east-1",
    ca: Annotated[
        Path | None, typer.Option("--s3-ca", metavar="FILE", help="Vouches for the endpoint.")
    ] = None,
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
    how = How(
        storage=storage if storage.startswith("s3://") else str(Path(storage).expanduser().absolute()),
        endpoint=endpoint,
        region=region,
        ca=absolute(ca),
        identity=str(identity.expanduser().absolute()),
        signed_by=tuple(signed_by or ()),
        component=component,
        target=to,
        user=user,
        password_env=password_env,
        password_file=absolute(password_file),
        target_ca=absolute(tls_ca),
    )
    selection = Selection(pattern, database, conflict, prefix)
    configure_logs()
    restores = RedisRestore(
        data_dir,
        os.environ,
        by=name_of(os.getuid()),
        tell=say if output is Output.TABLE else lambda _: None,
        agree=asking(data_dir, reason=reason, break_glass=break_glass),
        reason=break_glass or reason,
    )
    found = restores.keys(how, backup, moment(as_of), selection, confirm)
    verb = "were" if found.done else "would be"
    lines = [
        f"{found.matched:,} keys of backup {found.backup} match",
        f"{found.restored:,} {verb} restored, {found.overwritten:,} written over, {found.skipped:,} skipped",
        f"{found.expired:,} are expired",
    ]
    if not found.done:
        lines.append(f"do it: the same command with --confirm {found.hash}")
    emit(output, found, "\n".join(lines))

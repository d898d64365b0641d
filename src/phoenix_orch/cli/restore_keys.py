"""`phoenix restore keys`: some keys of a backup of Redis. It counts first; the hash of that does it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from phoenix_orch.cli.backup_config import moment
from phoenix_orch.cli.options import UNSET, DataDir, Output, OutputOption, Reason
from phoenix_orch.cli.output import emit, tell
from phoenix_orch.cli.restore_options import (
    AsOf,
    Component,
    Endpoint,
    PasswordEnv,
    PasswordFile,
    Region,
    S3Ca,
    SignedBy,
    TlsCa,
    User,
    Which,
)
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
    component: Component = "redis",
    backup: Which = "latest",
    as_of: AsOf = None,
    conflict: Annotated[
        Conflict, typer.Option("--conflict", help="What happens to a key that is there.")
    ] = Conflict.SKIP,
    prefix: Annotated[str, typer.Option("--prefix", metavar="TEXT", help="For rename-prefix.")] = "",
    database: Annotated[int, typer.Option("--database", metavar="N", min=0, help="Of both servers.")] = 0,
    signed_by: SignedBy = None,
    user: User = "",
    password_env: PasswordEnv = None,
    password_file: PasswordFile = None,
    tls_ca: TlsCa = None,
    endpoint: Endpoint = "",
    region: Region = "us-east-1",
    ca: S3Ca = None,
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
        tell=tell if output is Output.TABLE else lambda _: None,
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

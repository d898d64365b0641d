"""Options that name a storage, a copy in it, and the Redis that it goes into."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Component = Annotated[str, typer.Option("--component", metavar="NAME", help="As `redis/cache`.")]
Which = Annotated[
    str, typer.Option("--backup", metavar="ID", help="Which one; left out: the newest that was verified.")
]
AsOf = Annotated[
    str | None,
    typer.Option("--as-of", metavar="WHEN", help="The newest not later: 2026-11-28T10:00:00Z."),
]
SignedBy = Annotated[
    list[str] | None,
    typer.Option("--signed-by", metavar="KEY", help="Public key of the machine that took them."),
]
User = Annotated[str, typer.Option("--user", metavar="NAME", help="Of the server.")]
PasswordEnv = Annotated[
    str | None, typer.Option("--password-env", metavar="VARIABLE", help="Holds the server's password.")
]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", metavar="FILE", help="Holds it in its first line.")
]
TlsCa = Annotated[Path | None, typer.Option("--tls-ca", metavar="FILE", help="Reach the server by TLS.")]
Endpoint = Annotated[str, typer.Option("--endpoint", metavar="URL", help="Of S3, where it is not AWS.")]
Region = Annotated[str, typer.Option("--region", metavar="NAME", help="Of S3.")]
S3Ca = Annotated[Path | None, typer.Option("--s3-ca", metavar="FILE", help="Vouches for the endpoint.")]

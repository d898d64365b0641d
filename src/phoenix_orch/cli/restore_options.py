"""Options that name a copy of a Redis in a storage, and the server that it goes into."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from phoenix_orch.orchestrator.redis_restore import How

Component = Annotated[str, typer.Option("--component", metavar="NAME", help="As `redis/cache`.")]
Which = Annotated[
    str, typer.Option("--backup", metavar="ID", help="Which one; left out: the newest that was verified.")
]
AsOf = Annotated[
    str | None,
    typer.Option("--as-of", metavar="WHEN", help="The newest not later: 2026-11-28T10:00:00Z."),
]


@dataclass(frozen=True, slots=True)
class Copy:
    """Which copy, where it is, and what opens it."""

    storage: Annotated[
        str, typer.Option("--storage", metavar="PLACE", help="Folder of the backups, or s3://bucket/prefix.")
    ]
    identity: Annotated[
        Path, typer.Option("--identity", metavar="FILE", help="A private key that opens them.")
    ]
    component: Component = "redis"
    backup: Which = "latest"
    as_of: AsOf = None
    signed_by: Annotated[
        list[str] | None,
        typer.Option("--signed-by", metavar="KEY", help="Public key of the machine that took them."),
    ] = None
    endpoint: Annotated[
        str, typer.Option("--endpoint", metavar="URL", help="Of S3, where it is not AWS.")
    ] = ""
    region: Annotated[str, typer.Option("--region", metavar="NAME", help="Of S3.")] = "us-east-1"
    s3_ca: Annotated[
        Path | None, typer.Option("--s3-ca", metavar="FILE", help="Vouches for the endpoint.")
    ] = None


@dataclass(frozen=True, slots=True)
class Server:
    """Where the copy goes, and who logs in there."""

    to: Annotated[
        str, typer.Option("--to", metavar="HOST:PORT", help="The server, or the path of its unix socket.")
    ]
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="Of the server.")] = ""
    password_env: Annotated[
        str | None, typer.Option("--password-env", metavar="VARIABLE", help="Holds the server's password.")
    ] = None
    password_file: Annotated[
        Path | None, typer.Option("--password-file", metavar="FILE", help="Holds it in its first line.")
    ] = None
    tls_ca: Annotated[
        Path | None, typer.Option("--tls-ca", metavar="FILE", help="Reach the server by TLS.")
    ] = None
    tls_cert: Annotated[
        Path | None,
        typer.Option("--tls-cert", metavar="FILE", help="Our certificate, where it asks for one."),
    ] = None
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="Its key; left out: in the same file.")
    ] = None


@dataclass(frozen=True, slots=True)
class Serving:
    """How we serve the copy to the server, and who loads it before."""

    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where the server reaches us.")
    ] = ""
    listen_cert: Annotated[
        Path | None,
        typer.Option(
            "--listen-cert",
            metavar="FILE",
            help="Shown to a server that takes data over TLS alone; left out: --tls-cert.",
        ),
    ] = None
    listen_key: Annotated[
        Path | None, typer.Option("--listen-key", metavar="FILE", help="Its key; left out: in the same file.")
    ] = None
    rehearsal_server: Annotated[
        list[Path] | None,
        typer.Option(
            "--rehearsal-server",
            metavar="FILE",
            help="A redis-server that loads the copy where Phoenix's Valkey does not.",
        ),
    ] = None


def how(copy: Copy, server: Server, serving: Serving | None = None) -> How:
    """As it is kept: another command reads it elsewhere, so paths are whole."""
    serving = serving or Serving()
    folder = not copy.storage.startswith("s3://")
    return How(
        storage=_absolute(Path(copy.storage)) if folder else copy.storage,
        endpoint=copy.endpoint,
        region=copy.region,
        ca=copy.s3_ca and _absolute(copy.s3_ca),
        identity=_absolute(copy.identity),
        signed_by=tuple(copy.signed_by or ()),
        component=copy.component,
        target=server.to,
        user=server.user,
        password_env=server.password_env,
        password_file=server.password_file and _absolute(server.password_file),
        target_ca=server.tls_ca and _absolute(server.tls_ca),
        target_cert=server.tls_cert and _absolute(server.tls_cert),
        target_key=server.tls_key and _absolute(server.tls_key),
        listen=serving.listen,
        listen_cert=serving.listen_cert and _absolute(serving.listen_cert),
        listen_key=serving.listen_key and _absolute(serving.listen_key),
        rehearsal_servers=tuple(_absolute(one) for one in serving.rehearsal_server or ()),
    )


def _absolute(path: Path) -> str:
    return str(path.expanduser().absolute())

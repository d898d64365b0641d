"""Servers that speak TLS alone, to clients and to their primary, and the certificates for that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as Unreachable
from tests.cluster.certificates import Authority, Pair, write_private
from tests.redis_server import PATIENCE, Server, free_port, serving, until

from phoenix_orch.recovery.redis_address import RedisAddress, RedisTls


@dataclass(frozen=True)
class Files:
    """A certificate and its key."""

    cert: Path
    key: Path


class Authorities:
    """One that servers and clients trust, and certificates of it in files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._authority = Authority(folder)

    @property
    def file(self) -> Path:
        return self._authority.certificate_file

    def server(self, name: str = "server") -> Files:
        return self._written(name, self._authority.server("127.0.0.1", "localhost"))

    def client(self, name: str = "client") -> Files:
        """Good for a client alone."""
        return self._written(name, self._authority.user(name))

    def _written(self, name: str, pair: Pair) -> Files:
        return Files(
            write_private(self._folder / f"{name}.crt", pair.certificate),
            write_private(self._folder / f"{name}.key", pair.key),
        )


@dataclass
class Secure:
    """A server without a port in clear, which asks everybody for a certificate."""

    server: Server
    port: int
    authority: Authorities

    @property
    def tls(self) -> RedisTls:
        own = self.authority.client()
        return RedisTls(self.authority.file, own.cert, own.key)

    @property
    def address(self) -> RedisAddress:
        return RedisAddress(port=self.port, tls=self.tls)

    def client(self) -> Redis:
        options = {**self.address.client_options(), "socket_timeout": PATIENCE}
        return Redis(decode_responses=True, **options)

    def ask(self, *words: object) -> object:
        with self.client() as client:
            return client.execute_command(*words)

    def digest(self) -> str:
        return str(self.ask("DEBUG", "DIGEST"))


@contextlib.contextmanager
def secured(folder: Path, authority: Authorities, *options: str, binary: Path) -> Iterator[Secure]:
    """One that answers."""
    port = free_port()
    shown, own = authority.server(f"server-{port}"), authority.client(f"client-{port}")
    settings: dict[str, object] = {
        "--port": 0,
        "--tls-port": port,
        "--tls-cert-file": shown.cert,
        "--tls-key-file": shown.key,
        "--tls-client-cert-file": own.cert,
        "--tls-client-key-file": own.key,
        "--tls-ca-cert-file": authority.file,
        "--tls-auth-clients": "yes",
        "--tls-replication": "yes",
    }
    words = [str(word) for pair in settings.items() for word in pair]
    with serving(folder, *words, *options, binary=binary) as server:
        made = Secure(server, port, authority)
        until(lambda: _answers(made), server.log)
        yield made


def _answers(one: Secure) -> bool:
    try:
        return bool(one.ask("PING"))
    except Unreachable as error:
        if "refused" in str(error).lower():
            return False
        raise

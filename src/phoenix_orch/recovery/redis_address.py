"""Where a Redis or Valkey server is, and who logs in there. Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PORT = 6379


@dataclass(frozen=True, slots=True)
class RedisTls:
    """How the server proves who it is, and, with a certificate, we."""

    ca_file: Path | None = None
    """None: the authorities that this machine trusts."""
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """One server. What is printed of it never holds the password."""

    host: str = "127.0.0.1"
    port: int = PORT
    socket: str = ""
    """Path of a unix socket; it goes before host and port."""
    username: str = ""
    """Empty: the user `default`."""
    password: str = field(default="", repr=False)
    tls: RedisTls | None = None

    def __str__(self) -> str:
        if self.socket:
            return self.socket
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def at(self, host: str, port: int) -> RedisAddress:
        """Another server with the same login: a replica, a shard."""
        return dataclasses.replace(self, host=host, port=port, socket="")

    def client_options(self) -> dict[str, Any]:
        """Arguments of `redis.Redis` that connect there."""
        options: dict[str, Any] = {"username": self.username or None, "password": self.password or None}
        if self.socket:
            return {**options, "unix_socket_path": self.socket}
        options |= {"host": self.host, "port": self.port}
        if self.tls is None:
            return options
        files = {
            "ssl_ca_certs": self.tls.ca_file,
            "ssl_certfile": self.tls.cert_file,
            "ssl_keyfile": self.tls.key_file,
        }
        return {
            **options,
            "ssl": True,
            "ssl_check_hostname": True,
            **{name: str(path) for name, path in files.items() if path is not None},
        }

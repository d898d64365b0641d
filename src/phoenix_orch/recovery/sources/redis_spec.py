"""What phoenix.yaml says about a Redis or Valkey that is backed up. Pure."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator

from phoenix_orch.kernel.units import Duration
from phoenix_orch.recovery.redis_address import PORT, RedisAddress, RedisTls
from phoenix_orch.rollout.spec import Model


class Prefer(StrEnum):
    """Which server of a primary and its replicas gives the copy."""

    REPLICA = "replica"
    """A replica whose link is up; the primary where there is none."""
    ONLY_REPLICA = "only-replica"
    """A replica whose link is up; without one the backup fails."""
    PRIMARY = "primary"
    """The server that is named, whatever it is."""


class RedisTlsSpec(Model):
    """TLS to the server. Relative paths are taken from where phoenix.yaml is."""

    ca: str | None = None
    """A file in PEM of the authority that the server's certificate is from; left out: the system's."""
    cert: str | None = None
    """Our certificate, where the server asks for one."""
    key: str | None = None
    """Its key."""


class RedisSpec(Model):
    """One Redis or Valkey: alone, a primary with replicas, or any node of a cluster."""

    address: str = Field(min_length=1, max_length=300)
    """`host:port`, or the path of a unix socket."""
    username: str = ""
    """A user with `+psync +replconf +ping +info`; left out: the default user."""
    password_env: str | None = None
    """Environment variable that holds the password."""
    password_file: str | None = None
    """File whose first line is the password."""
    tls: RedisTlsSpec | None = None
    prefer: Prefer = Prefer.REPLICA
    """Where a copy is taken; a replica spares the primary the fork."""
    shards: int = Field(default=1, ge=1, le=1000)
    """Of a cluster: how many shards it has. Each is backed up for itself: `redis/NAME.shard0` …"""
    max_lag: Duration = timedelta(seconds=60)
    """A replica that is further behind gives no copy."""
    check_memory: bool = True
    """Refuse to have a server fork that seems to lack the memory for it."""

    @field_validator("address")
    @classmethod
    def _place(cls, value: str) -> str:
        if "@" in value or "://" in value:
            raise ValueError("write host:port; user and password have places of their own")
        place(value)
        return value

    def components(self, name: str) -> tuple[str, ...]:
        """What is backed up of it: itself, or each of its shards."""
        if self.shards == 1:
            return (f"redis/{name}",)
        return tuple(f"redis/{name}.shard{number}" for number in range(self.shards))

    def placed(self, base: Path) -> Self:
        """With paths that are absolute; relative ones are taken from `base`."""

        def absolute(text: str | None) -> str | None:
            return None if text is None else str(base / Path(text).expanduser())

        tls = self.tls
        if tls is not None:
            tls = RedisTlsSpec(ca=absolute(tls.ca), cert=absolute(tls.cert), key=absolute(tls.key))
        return self.model_copy(update={"tls": tls, "password_file": absolute(self.password_file)})


def place(text: str) -> tuple[str, int, str]:
    """Host, port and socket of an address as people write it. Raises ValueError."""
    if text.startswith("/"):
        return "", PORT, text
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = text, str(PORT)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{port!r} is no port; write host:port, or the path of a unix socket")
    return host.strip("[]"), int(port), ""


def address_of(spec: RedisSpec, password: str) -> RedisAddress:
    """The server of `spec`, with the password that was read for it."""
    host, port, socket = place(spec.address)
    tls = None
    if spec.tls is not None:
        ca, cert, key = (Path(file) if file else None for file in (spec.tls.ca, spec.tls.cert, spec.tls.key))
        tls = RedisTls(ca, cert, key)
    return RedisAddress(host, port, socket, spec.username, password, tls)

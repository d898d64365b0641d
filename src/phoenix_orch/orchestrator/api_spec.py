"""What phoenix.yaml says about the API on a TCP port: where it listens, and who is known there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.loopback import loopback
from phoenix_orch.orchestrator.oidc_spec import OidcSpec
from phoenix_orch.rollout.spec import Model
from phoenix_orch.traffic.spec import parse_listen

if TYPE_CHECKING:
    from phoenix_orch.orchestrator.config import PhoenixFile  # which holds an ApiSpec

OFF = "off"
DEFAULT_API = "127.0.0.1:7007"


def parse_api_listen(value: object) -> str:
    """As for the router; `off` for none, and port 0 for one that is free. Raises ValueError."""
    if value is False or value == OFF:  # YAML 1.1 takes the bare word for a boolean
        return OFF
    if isinstance(value, str) and value.strip().endswith(":0"):
        host, _, _ = parse_listen(f"{value.strip()[:-2]}:1").rpartition(":")
        return f"{host}:0"
    return parse_listen(value)


ApiListen = Annotated[
    str,
    BeforeValidator(parse_api_listen),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 65535},
                {"type": "string"},
                {"const": False},
            ],
            "examples": [DEFAULT_API, ":7007", OFF],
        }
    ),
]


HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9.:\[\]-]+$")]
"""A name or an address, without scheme, port and path."""


class TlsSpec(Model):
    """Files in PEM; they are read anew when they change. At least TLS 1.2 is spoken.

    A relative path is taken from where this file is.
    """

    certificate: str
    """The chain, the server's own certificate first."""
    key: str
    """Its private key, not encrypted."""
    client_ca: str | None = None
    """Only clients with a certificate of this authority get as far as HTTP; they say who they are there."""


class ApiSpec(Model):
    """The API and the console on a TCP port, beside the unix socket. Read at the start of Phoenix."""

    listen: ApiListen = DEFAULT_API
    """HOST:PORT; `off`: the unix socket only."""
    hosts: tuple[HostName, ...] = ()
    """Further names by which browsers may call it. Names of this machine's loopback always are."""
    tls: TlsSpec | None = None
    """Needed where others than this machine can connect."""
    oidc: OidcSpec | None = None
    """Who else is known, besides tokens of Phoenix."""
    requests_per_second: float = Field(default=200, gt=0)
    """Of one principal, in the long run; five times as many at once."""

    @model_validator(mode="after")
    def _not_open(self) -> Self:
        if self.listen != OFF and self.tls is None and not loopback(self.listen):
            raise ValueError(
                f"{self.listen} is open to other machines: tokens would cross the network in the clear; "
                "give tls, or listen on 127.0.0.1"
            )
        return self

    def placed(self, base: Path) -> ApiSpec:
        """With files that do not depend on where Phoenix is started."""
        tls, oidc = self.tls, self.oidc
        if tls is not None:
            tls = tls.model_copy(update=absolute(tls, base, "certificate", "key", "client_ca"))
        if oidc is not None:
            oidc = oidc.model_copy(update=absolute(oidc, base, "client_secret_file", "ca"))
        return self.model_copy(update={"tls": tls, "oidc": oidc})

    @property
    def host(self) -> str:
        """The address to bind, without brackets; empty: every interface."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """0: one that is free."""
        return int(self.listen.rpartition(":")[2])


def absolute(spec: Model, base: Path, *names: str) -> dict[str, str]:
    """The paths under these names that are given, from `base` where they are relative."""
    given = {name: getattr(spec, name) for name in names}
    return {
        name: str((base / Path(path).expanduser()).resolve())
        for name, path in given.items()
        if path is not None
    }


def api_spec(file: PhoenixFile | None, listen: str | None) -> ApiSpec:
    """What is applied, with another address where one is given. Raises Invalid where that cannot be."""
    spec = file.api if file is not None else ApiSpec()
    if listen is None:
        return spec
    try:
        return ApiSpec.model_validate({**dict(spec), "listen": listen})
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise Invalid(f"--listen: {message}", remedy=f"for example --listen {DEFAULT_API}") from None

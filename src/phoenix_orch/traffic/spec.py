"""What a person says about the router and its routes in phoenix.yaml."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from phoenix_orch.rollout.spec import Model, Name

DEFAULT_LISTEN = "127.0.0.1:8080"

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")


def parse_listen(value: object) -> str:
    """`127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`; `:8080` is every interface; a bare port is
    this machine only. Gives `host:port` back, the host empty for every interface.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return f"127.0.0.1:{_port(str(value), value)}"
    if isinstance(value, str):
        text = value.strip()
        if text.isdecimal():
            return f"127.0.0.1:{_port(text, value)}"
        host, colon, port = text.rpartition(":")
        if colon:
            return f"{_host(host, value)}:{_port(port, value)}"
    raise ValueError(f"{value!r} is not an address; write HOST:PORT, :PORT or a port, e.g. {DEFAULT_LISTEN}")


def _port(text: str, found: object) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ValueError(f"{found!r} has no port from 1 to 65535")
    return int(text)


def _host(text: str, found: object) -> str:
    if text in ("", "localhost"):
        return text
    bracketed = text.startswith("[") and text.endswith("]")
    try:
        address = ipaddress.ip_address(text[1:-1] if bracketed else text)
    except ValueError:
        raise ValueError(f"{found!r} does not start with localhost or an IP address") from None
    if (address.version == 6) != bracketed:
        raise ValueError(f"{found!r}: only an IPv6 address stands in brackets, as in [::1]:8080")
    return text


Listen = Annotated[
    str,
    BeforeValidator(parse_listen),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"}],
            "examples": [DEFAULT_LISTEN, ":8080", 8080],
        }
    ),
]


class RouterSpec(Model):
    """The embedded router of one machine."""

    listen: Listen = DEFAULT_LISTEN
    """Where users' requests arrive."""

    @property
    def host(self) -> str:
        """The address to bind, without brackets; empty: every interface."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    @property
    def url(self) -> str:
        """A base address that reaches the router from this machine."""
        host = self.listen.rpartition(":")[0]
        local = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104
        return f"http://{local}:{self.port}"


class RouteSpec(Model):
    """Which requests go to a service. The most exact route wins: host before none, longer prefix first."""

    service: Name
    """The service that answers."""
    host: str | None = None
    """Host name of the request, without port; none: any."""
    path_prefix: str = Field(default="/", json_schema_extra={"examples": ["/", "/api"]})
    """The path itself and everything below it: `/api` is `/api` and `/api/x`, not `/apix`."""

    @field_validator("host", mode="before")
    @classmethod
    def _host_name(cls, value: object) -> object:
        if value is None:
            return None
        if isinstance(value, str) and len(value) <= 253 and _HOST.fullmatch(value.lower()):
            return value.lower()
        raise ValueError(f"{value!r} is not a host name; write one without port or *: shop.example.com")

    @field_validator("path_prefix", mode="before")
    @classmethod
    def _path(cls, value: object) -> object:
        if isinstance(value, str) and _PATH.fullmatch(value) and "//" not in value:
            return value.rstrip("/") or "/"
        raise ValueError(f"{value!r} is not a path prefix; write it with a leading slash, e.g. / or /api")

"""Where a Phoenix is asked: on the unix socket of its data directory, or at an address with a token."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from phoenix_orch.client.transport import UnixConnection
from phoenix_orch.kernel.errors import Invalid, Unavailable

SOCKET = "phoenix.sock"


class Place(Protocol):
    """How one Phoenix is reached, and what to say when it is not."""

    @property
    def name(self) -> str:
        """For messages: `Phoenix on DIR`, `Phoenix at ADDRESS`."""
        ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        """A connection that is made with the first request."""
        ...

    def nobody_listens(self) -> Unavailable: ...

    def not_allowed(self) -> Invalid: ...


class SocketPlace:
    """The Phoenix of a data directory; the kernel tells it who asks."""

    headers: Mapping[str, str] = {}

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.name = f"Phoenix on {data_dir}"

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        return UnixConnection(self._data_dir / SOCKET, timeout)

    def nobody_listens(self) -> Unavailable:
        return Unavailable(
            f"Phoenix is not running for this data directory: {self._data_dir}",
            remedy="start it with `phoenix up`, or name another directory with --data-dir",
        )

    def not_allowed(self) -> Invalid:
        return Invalid(
            f"the Phoenix of {self._data_dir} belongs to another user",
            remedy="run this as that user, or name your own directory with --data-dir",
        )


class AddressPlace:
    """A Phoenix at an `http://` or `https://` address, which is shown a token."""

    def __init__(self, url: str, token: str | None) -> None:
        """Raises Invalid for what is no such address. The token never gets into a message, and goes over
        plain HTTP to this machine only."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise Invalid(
                "that is no address of a Phoenix", remedy="write http://HOST:PORT or https://HOST:PORT"
            )
        if parts.username is not None or parts.query or parts.fragment or parts.path.strip("/"):
            raise Invalid(
                "the address of a Phoenix has no user, path or query",
                remedy="write http://HOST:PORT or https://HOST:PORT; give the token by itself",
            )
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname, port
        if token and not self._tls and self._host not in ("localhost", "127.0.0.1", "::1"):
            raise Invalid(
                f"a token would go to {self._host} where anybody on the way can read it",
                remedy="use https://, or `kubectl port-forward` and an address of this machine",
            )
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self.name = f"Phoenix at {parts.scheme}://{shown}{f':{port}' if port else ''}"
        self.headers: Mapping[str, str] = {"Authorization": f"Bearer {token}"} if token else {}

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        if self._tls:
            context = ssl.create_default_context()  # SSL_CERT_FILE names certificates of one's own
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout)

    def nobody_listens(self) -> Unavailable:
        return Unavailable(
            f"{self.name} cannot be reached", remedy="see whether it runs, and whether the address is right"
        )

    def not_allowed(self) -> Invalid:
        return Invalid(f"{self.name} cannot be called from here", remedy="ask whoever runs this machine")

"""Headers that tell browsers to be careful, and no answer for a name that this Phoenix does not have."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phoenix_orch.api.problems import document
from phoenix_orch.kernel.errors import Invalid

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # `no-referrer` would make the origin of our own forms null
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""For every answer that says nothing else itself."""
TRANSPORT = ("strict-transport-security", "max-age=31536000")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Hardened:
    """Adds the headers; over TLS also that nothing else is to be spoken."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def added(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope.get("scheme") == "https":
                    headers.setdefault(*TRANSPORT)
            await send(message)

        await self._app(scope, receive, added)


class Named:
    """Answers on TCP only to names of this Phoenix.

    A page from elsewhere whose own name is made to lead here (DNS rebinding) asks with that name.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        """`hosts`: without ports. Loopback's names are among them."""
        self._app = app
        self._hosts = frozenset(host.lower().strip("[]") for host in hosts) | LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        local = scope.get("state", {}).get("peer_uid") is not None
        if scope["type"] != "http" or local or name_of(Headers(scope=scope).get("host", "")) in self._hosts:
            await self._app(scope, receive, send)
            return
        await document(
            421,
            Invalid.code,
            "Not this name",
            "this Phoenix is not known by the name that was asked for",
            "use the name in its configuration, or add yours to api.hosts",
        )(scope, receive, send)


def name_of(host: str) -> str:
    """The name in a Host header, without port and brackets, in small letters."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]

"""Who is at the other end of the unix socket, as the kernel tells it: nobody can pretend."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from fastapi import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from phoenix_orch.runtime.users import name_of

_UCRED = struct.Struct("3i")
UNKNOWN = "unknown"


class PeerProtocol(H11Protocol):
    """HTTP that puts the peer's user id into the state of each request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self.app_state = {**self.app_state, "peer_uid": peer_uid(transport.get_extra_info("socket"))}


def peer_uid(connection: Any) -> int | None:
    """User id of the process that connected; None on anything but a unix socket."""
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


def actor(request: Request) -> str:
    """Name of the user who asks, or `uid <n>` for one without a name."""
    uid = getattr(request.state, "peer_uid", None)
    if uid is None:
        return UNKNOWN
    return name_of(uid)

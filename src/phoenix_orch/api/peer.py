"""Who is at the other end of the unix socket, as the kernel tells it: nobody can pretend."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from fastapi import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from phoenix_orch.runtime.users import name_of
from phoenix_orch.security.rights import Grant, Kind, Principal, Role

_UCRED = struct.Struct("3i")


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


async def by_peer(request: Request) -> Principal | None:
    """The user at the other end of the unix socket, who owns it or is root: an admin.

    Only they can open it (mode 0600). None on anything but a unix socket.
    """
    uid = getattr(request.state, "peer_uid", None)
    return None if uid is None else Principal(name_of(uid), Kind.USER, (Grant(Role.ADMIN),))

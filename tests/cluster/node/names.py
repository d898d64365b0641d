"""The names of cluster.local, answered from the API server's services and endpoints.

    nsenter --net=… python names.py FOLDER ADDRESS API_SERVER

A records of services (`NAME.NAMESPACE.svc.cluster.local`; a headless one has the addresses of its ready
pods) and of pods in them (`HOSTNAME.NAME.…`). Every other name does not exist: there is no way out.
FOLDER holds ca.crt and the client certificate names.crt with names.key.
"""

from __future__ import annotations

import asyncio
import http.client
import ipaddress
import json
import ssl
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

DOMAIN = ["svc", "cluster", "local"]
_TTL = 5
_NO_SUCH_NAME, _FAILED, _NOT_IMPLEMENTED = 3, 2, 4
_A, _ANY, _IN = 1, 255, 1
_HEAD = struct.Struct("!6H")

Get = Callable[[str], dict[str, Any] | None]
"""An object of the API server by its path; None when there is none."""


def addresses(get: Get, name: str) -> list[str] | None:
    """The addresses of a name; None when it does not exist."""
    labels = name.lower().rstrip(".").split(".")
    if labels[-3:] != DOMAIN or len(labels) not in (5, 6):
        return None
    *host, service, namespace = labels[:-3]
    found = get(f"/api/v1/namespaces/{namespace}/services/{service}")
    if found is None:
        return None
    if found["spec"].get("clusterIP") not in (None, "", "None"):
        return None if host else [found["spec"]["clusterIP"]]
    selector = f"kubernetes.io%2Fservice-name%3D{service}"
    slices = get(f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector={selector}")
    ready = [
        endpoint
        for part in (slices or {}).get("items", [])
        for endpoint in part.get("endpoints") or []
        if endpoint.get("conditions", {}).get("ready", True)
    ]
    chosen = [endpoint for endpoint in ready if not host or endpoint.get("hostname") == host[0]]
    return [address for endpoint in chosen for address in endpoint["addresses"]] or None


def answer(get: Get, query: bytes) -> bytes:
    """The answer to one query in the format of RFC 1035. Raises ValueError, struct.error when it is none."""
    number, flags, questions, *_ = _HEAD.unpack_from(query)
    if questions != 1 or flags & 0xF800:
        return _HEAD.pack(number, 0x8000 | flags & 0x7900 | _NOT_IMPLEMENTED, 0, 0, 0, 0)
    name, end = _name(query)
    kind, _ = struct.unpack_from("!2H", query, end)
    question = query[_HEAD.size : end + 4]
    status, records = 0, b""
    count = 0
    try:
        found = addresses(get, name)
    except (OSError, http.client.HTTPException):
        status, found = _FAILED, []
    if found is None:
        status, found = _NO_SUCH_NAME, []
    if kind in (_A, _ANY):
        count = len(found)
        for address in found:
            records += struct.pack("!HHHIH", 0xC000 | _HEAD.size, _A, _IN, _TTL, 4)
            records += ipaddress.IPv4Address(address).packed
    # authoritative; recursion is said to be there, as some resolvers insist on it
    head = _HEAD.pack(number, 0x8480 | flags & 0x0100 | status, 1, count, 0, 0)
    return head + question + records


def _name(query: bytes) -> tuple[str, int]:
    """The name that is asked for, and where it ends."""
    labels, place = [], _HEAD.size
    while length := query[place]:
        if length > 63:
            raise ValueError("a compressed name in a question")
        labels.append(query[place + 1 : place + 1 + length].decode("ascii"))
        place += 1 + length
    return ".".join(labels), place + 1


class Objects:
    """Reads objects from the API server."""

    def __init__(self, folder: Path, server: str) -> None:
        self._server = urlsplit(server)
        self._context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        self._context.load_cert_chain(folder / "names.crt", folder / "names.key")

    def get(self, path: str) -> dict[str, Any] | None:
        """Raises OSError, HTTPException when the API server does not answer."""
        connection = http.client.HTTPSConnection(
            self._server.hostname or "", self._server.port, context=self._context, timeout=2
        )
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status == 404:
            return None
        if response.status != 200:
            raise http.client.HTTPException(f"{path}: {response.status}")
        found: dict[str, Any] = json.loads(content)
        return found


class Queries(asyncio.DatagramProtocol):
    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._transport: asyncio.DatagramTransport | None = None
        self._working: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        task = asyncio.get_running_loop().create_task(self._reply(data, addr))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _reply(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        try:
            reply = await asyncio.to_thread(answer, self._objects.get, data)
        except (ValueError, IndexError, struct.error):
            return  # no query
        if self._transport is not None:
            self._transport.sendto(reply, addr)


async def main(folder: Path, address: str, server: str) -> None:
    objects = Objects(folder, server)
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: Queries(objects), local_addr=(address, 53))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))

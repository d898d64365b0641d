"""A real data plane without a node: Traefik as a process, before servers of the test's own process.

EndpointSlices made by hand lead Traefik to them. The API server takes no loopback address there, so the
servers listen on another one of this machine.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from tests.cluster.certificates import Authority
from tests.cluster.kubectl import Cluster
from tests.unit.kube_objects import endpoints

from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import ENDPOINT_SLICES, SECRETS, SERVICES, Object
from phoenix_orch.runtime import detached
from phoenix_orch.testing.loopback import named_server


def address() -> str:
    """Of this machine, and not loopback; skips the test where there is none."""
    for found in psutil.net_if_addrs().values():
        for one in found:
            if one.family == socket.AF_INET:
                ip = ipaddress.ip_address(one.address)
                if not (ip.is_loopback or ip.is_link_local):
                    return one.address
    pytest.skip("the machine has no address but loopback, which EndpointSlices refuse")


@contextlib.asynccontextmanager
async def variants(client: KubeClient, *services: str) -> AsyncIterator[None]:
    """A Service for each name, and a server behind it that answers with the name."""
    host = address()
    async with contextlib.AsyncExitStack() as stack:
        for name in services:
            port = await stack.enter_async_context(named_server(name, host=host))
            service: Object = {
                "metadata": {"name": name},
                "spec": {"ports": [{"port": 80, "targetPort": port}]},
            }
            await client.create(SERVICES, service)
            await client.create(ENDPOINT_SLICES, endpoints(name, address=host, port=port))
        yield


@dataclass(frozen=True, slots=True)
class Router:
    """A Traefik that runs."""

    http: int
    https: int
    authority: Path

    async def ask(
        self, host: str, where: str = "/", *, tls: bool = False, headers: Mapping[str, str] | None = None
    ) -> str:
        """Who answered one request, or with what status it failed."""
        return next(iter(await self.count(1, host, where, tls=tls, headers=headers)))

    async def count(
        self,
        requests: int,
        host: str,
        where: str = "/",
        *,
        tls: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Counter[str]:
        """Who answered how many of the requests; failures by their status."""
        base = f"https://127.0.0.1:{self.https}" if tls else f"http://127.0.0.1:{self.http}"
        counts: Counter[str] = Counter()
        async with httpx.AsyncClient(base_url=base, verify=_trust(self.authority), trust_env=False) as users:
            for _ in range(requests):
                sni = {"sni_hostname": host} if tls else {}
                asked = {"Host": host, **(headers or {})}
                try:
                    answer = await users.get(where, headers=asked, extensions=sni)
                except httpx.TransportError as error:
                    counts[type(error).__name__] += 1
                else:
                    counts[answer.text if answer.status_code == 200 else str(answer.status_code)] += 1
        return counts

    async def until(self, host: str, right: Callable[[Counter[str]], bool], within: float = 15.0) -> float:
        """Ask, twenty requests at a time, until what answers is `right`; seconds it took."""
        begun = time.monotonic()
        while not right(counts := await self.count(20, host)):
            assert time.monotonic() < begun + within, counts
            await asyncio.sleep(0.02)
        return time.monotonic() - begun


@contextlib.contextmanager
def traefik(cluster: Cluster, folder: Path, *flags: str) -> Iterator[Router]:
    """One that reads the cluster. Among `flags`, `{http}` is the port of plain requests."""
    http, https = _free_port(), _free_port()
    words = [
        str(Path(sys.executable).parent / "traefik"),
        f"--entrypoints.web.address=127.0.0.1:{http}",
        f"--entrypoints.websecure.address=127.0.0.1:{https}",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
        "--log.level=INFO",
        *(flag.format(http=http) for flag in flags),
    ]
    environment = {**detached.harmless_environment(), "KUBECONFIG": str(cluster.kubeconfig)}
    process = detached.spawn(words, output=folder / "traefik.log", environment=environment)
    try:
        yield Router(http, https, Authority(folder).certificate_file)
    finally:
        detached.end(process, grace=2.0, name="Traefik")


async def certificate(client: KubeClient, folder: Path, name: str, host: str) -> None:
    """A TLS secret for `host`, by an authority of the test's own."""
    pair = Authority(folder).server(host)
    await client.create(
        SECRETS,
        {
            "metadata": {"name": name},
            "type": "kubernetes.io/tls",
            "data": {
                "tls.crt": base64.b64encode(pair.certificate).decode(),
                "tls.key": base64.b64encode(pair.key).decode(),
            },
        },
    )


def _trust(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

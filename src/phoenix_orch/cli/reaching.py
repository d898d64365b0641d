"""Whom a command asks: Phoenix on this machine, or the objects of a cluster."""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from phoenix_orch.cli.options import SERVER
from phoenix_orch.client import Client
from phoenix_orch.client.client import TIMEOUT
from phoenix_orch.client.reads import Reads
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.cluster.access import Access

if TYPE_CHECKING:
    from phoenix_orch.client.cluster import ClusterClient


def reading(there: Access | None, data_dir: Path) -> AbstractContextManager[Reads]:
    """For commands that change nothing: they are the same in both places."""
    return client(data_dir) if there is None else cluster(there)


def client(data_dir: Path, *, timeout: float = TIMEOUT) -> Client:
    """The Phoenix of --server or PHOENIX_URL; without either the one of the data directory."""
    server = SERVER.get()
    if server is None:
        return Client(data_dir, timeout=timeout)
    return Client(url=server.url, token=server.token, timeout=timeout)


def elsewhere() -> bool:
    """A server is named: what is in the data directory of this machine says nothing about it."""
    return SERVER.get() is not None


def here_only(what: str, remedy: str) -> None:
    """Raises Invalid where a server is named: those of this machine would be taken for its own."""
    if elsewhere():
        raise Invalid(
            f"this command looks at the {what} of this machine, and --server (or PHOENIX_URL) names another",
            remedy=f"leave that out for this machine; for that one {remedy}, or type it there",
        )


def either(there: Access | None, data_dir: Path) -> Client | ClusterClient:
    """For commands that change something in the same way in both places."""
    return client(data_dir) if there is None else cluster(there)


def cluster(there: Access) -> ClusterClient:
    """It takes a second to import, and most people's Phoenix is on their machine."""
    module = importlib.import_module("phoenix_orch.client.cluster")
    return cast("ClusterClient", module.ClusterClient(there))

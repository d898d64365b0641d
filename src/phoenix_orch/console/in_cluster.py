"""The API of a replica in a cluster with the console in it."""

from __future__ import annotations

from phoenix_orch.api import in_cluster
from phoenix_orch.console.install import install
from phoenix_orch.orchestrator.kubernetes import ApiParts


async def serve_in_cluster(parts: ApiParts) -> None:
    """As `api.in_cluster.serve_in_cluster`."""
    await in_cluster.serve_in_cluster(parts, extend=install)

"""Where `{canary}` of a check leads in a cluster: to the Service of the revision under judgement. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from phoenix_orch.orchestrator.cluster.declared import Declared
from phoenix_orch.rollout.status import Status
from phoenix_orch.workload.deployment.manifest import Manifest, items, name_of

_NAMED = "http"


def check_target(one: Declared, status: Status, revision: str, services: Iterable[Manifest]) -> str | None:
    """The base address. None: there is no such Service, and nothing to check yet.

    After a promotion the revision is stable's, and so is the Service.
    """
    name = one.spec.canary_service if revision == status.canary else one.spec.service
    found = next((service for service in services if name_of(service) == name), None)
    if found is None or (port := _port(found)) is None:
        return None
    return f"http://{name}.{one.namespace}.svc:{port}"


def _port(service: Manifest) -> int | None:
    """The one called `http`, else the first."""
    ports = items(service, "spec", "ports")
    named = [port for port in ports if port.get("name") == _NAMED]
    chosen = (named or ports or [{}])[0].get("port")
    return int(chosen) if chosen is not None else None

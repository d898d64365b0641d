"""A drill asks the cluster whether it would take a configuration: every object, and none is put there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from phoenix_orch.kube.client import KubeClient
from phoenix_orch.recovery.config_repository import ConfigRepository
from phoenix_orch.recovery.drill_config import Accept
from phoenix_orch.recovery.keys import Identity
from phoenix_orch.recovery.restore import config_apply, config_wished

RIGHTS = "k8s/backup/config-drill-rights.yaml"
"""What lets Phoenix ask."""


def accepting(connect: Callable[[], KubeClient]) -> Accept:
    """`connect`: with the rights of who drills, and the field manager of a restore."""

    def accept(repository: ConfigRepository, commit: str, identities: Sequence[Identity]) -> str:
        objects = config_wished.wished(repository, commit, [one.key for one in identities])

        async def ask() -> config_apply.Accepted:
            async with connect() as client:
                return await config_apply.accepted(client, objects)

        found = asyncio.run(ask())
        said = f"the cluster would take {found.taken} of {len(objects)} objects"
        if not found.unasked:
            return said
        return f"{said}, and may not be asked about {', '.join(found.unasked)} ({RIGHTS} lets it)"

    return accept

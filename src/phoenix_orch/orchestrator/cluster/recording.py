"""The audit log of one namespace, as the replicas of the orchestrator keep it: one chain for all of them."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.orchestrator.cluster.declared import Rollouts
from phoenix_orch.orchestrator.cluster.reach import log_prefix
from phoenix_orch.security import acting
from phoenix_orch.security.recorder import ITSELF, Origin, Recorder
from phoenix_orch.security.shared_audit import SharedAuditLog


def audit_log(store_url: str, namespace: str) -> SharedAuditLog:
    """Raises Invalid for what is no URL of a store."""
    return SharedAuditLog(store_url, prefix=f"{log_prefix(namespace)}audit:")


def recorder_on(log: SharedAuditLog) -> Recorder:
    """For one replica. What nobody asked for was done by the pod."""
    pod = socket.gethostname()

    def origin() -> Origin:
        caller = acting.current.get()
        if caller is None:
            return Origin(ITSELF, source=pod)
        return Origin(caller.name, caller.request_id, caller.address)

    return Recorder(log, origin=origin)


class Standing:
    """Where a rollout stands, by the watch there is: it asks nobody."""

    def __init__(self, rollouts: Rollouts) -> None:
        self._rollouts = rollouts

    async def __call__(self, name: str) -> Mapping[str, Any] | None:
        try:
            rollout = self._rollouts.named(name).rollout
        except PhoenixError:
            return None
        status = rollout.status
        return {
            "state": status.state.value,
            "weight": status.weight,
            "stable": status.stable,
            "canary": status.canary,
            "wanted": rollout.target,
        }

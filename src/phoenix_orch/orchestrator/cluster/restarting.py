"""A rolled restart of what a Rollout releases, as `kubectl rollout restart` does it."""

from __future__ import annotations

from datetime import UTC, datetime

from phoenix_orch.kernel.errors import BadState, Conflict
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import DEPLOYMENTS
from phoenix_orch.orchestrator.cluster.reach import Found, Reach
from phoenix_orch.rollout.status import ACTIVE
from phoenix_orch.workload.deployment import marks


async def restart(there: Reach, found: Found, *, dry_run: bool) -> None:
    """Raises BadState in a release, NotFound without the Deployment, Forbidden, Conflict, Retryable."""
    if found.one.rollout.status.state in ACTIVE:
        raise BadState(
            f"{found.one.name} is being released; a restart would spoil its evidence",
            remedy="wait for the release to end, or abort it",
        )
    name, namespace = found.one.spec.workload.name, found.one.namespace
    stable = await there.client.get(DEPLOYMENTS, name, namespace)
    at = {marks.RESTARTED_AT: datetime.now(UTC).isoformat(timespec="seconds")}
    changes = {"spec": {"template": {"metadata": {"annotations": at}}}}
    try:
        await there.client.patch(
            DEPLOYMENTS, name, merge_patch_of(stable, changes), namespace, dry_run=dry_run
        )
    except Conflict as error:
        raise Conflict(f"Deployment {name} was changed meanwhile", remedy="say the same again") from error

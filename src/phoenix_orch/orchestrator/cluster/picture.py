"""The pods of stable and canary as the rollout machine counts them. Pure.

On one machine a promotion is a swap of groups. In a cluster stable takes the canary's template over, pod by
pod, and the canary serves until that is done. For the machine stable's pods stay those of the revision
before until the traffic object says otherwise: then all of them are the new one at once.
"""

from __future__ import annotations

from collections.abc import Collection

from phoenix_orch.rollout.facts import GroupFacts, TrafficWanted
from phoenix_orch.rollout.status import State, Status
from phoenix_orch.traffic.router import Backend, Group, TrafficState
from phoenix_orch.workload.workload import InstanceState, WorkloadState


def counted(
    status: Status, workload: WorkloadState, canary_pods: Collection[str], state: TrafficState | None
) -> dict[str, GroupFacts]:
    """Pods by revision. `canary_pods`: names of those that the canary's Deployment made."""
    swapped = state is not None and state.stable.revision == status.canary
    replacing = status.state is State.PROMOTING and not swapped
    groups: dict[str, GroupFacts] = {}
    for pod in workload.instances:
        revision = pod.revision
        if replacing and revision == status.canary and status.stable and pod.name not in canary_pods:
            revision = status.stable
        before = groups.get(revision, GroupFacts())
        ready = pod.state is InstanceState.READY
        groups[revision] = GroupFacts(present=before.present + 1, ready=before.ready + ready)
    return groups


def steered(
    route: str,
    wanted: TrafficWanted,
    state: TrafficState | None,
    *,
    services: tuple[str, str],
    canary_serves: bool,
) -> TrafficState:
    """The traffic object as it should be: groups stand behind two Services, (stable's, the canary's).

    The group before a promotion has no pods any more: nobody can be sent back to it in one write.
    """
    stable, canary = services
    has_canary = wanted.canary is not None
    return TrafficState(
        route=route,
        version=state.version if state is not None else 0,
        stable=Group(revision=wanted.stable, backends=(_behind(stable),)),
        canary=Group(revision=wanted.canary, backends=(_behind(canary),) if canary_serves else ())
        if wanted.canary is not None
        else None,
        previous=Group(revision=wanted.previous) if wanted.previous is not None else None,
        weight=wanted.weight if has_canary and canary_serves else 0,
        aborted=state.aborted if state is not None else (),
    )


def _behind(service: str) -> Backend:
    return Backend(instance=service, url=f"http://{service}")

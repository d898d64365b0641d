"""Between what the ports say and what decisions are made from: translations of pictures. Pure."""

from __future__ import annotations

from phoenix_orch.rollout.facts import GroupFacts, TrafficFacts, TrafficWanted
from phoenix_orch.traffic.router import Backend, Group, TrafficSeen, TrafficState
from phoenix_orch.workload.workload import WorkloadState


def traffic_facts(state: TrafficState | None, seen: TrafficSeen) -> TrafficFacts | None:
    """What the object says and what the data plane does. None: the object is not known."""
    if state is None:
        return None
    return TrafficFacts(
        stable=state.stable.revision,
        canary=state.canary.revision if state.canary else None,
        previous=state.previous.revision if state.previous else None,
        weight=state.weight,
        aborted=state.aborted,
        seen=seen.weight,
        seen_canary=seen.canary_revision,
        seen_stable=seen.stable_revision,
    )


def routed(workload: WorkloadState, state: TrafficState | None, backends: frozenset[str]) -> frozenset[str]:
    """Instances that the traffic object names or the data plane (`backends`) may send to."""
    named = set(backends)
    for group in (state.stable, state.canary, state.previous) if state is not None else ():
        if group is not None:
            named |= {backend.url for backend in group.backends}
    return frozenset(i.name for i in workload.instances if url(i.port) in named)


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def groups(workload: WorkloadState | None) -> dict[str, GroupFacts] | None:
    if workload is None:
        return None
    revisions = {instance.revision for instance in workload.instances}
    return {
        revision: GroupFacts(
            present=len(workload.of(revision)),
            ready=len(workload.ready(revision)),
        )
        for revision in revisions
    }


def traffic_state(
    route: str, wanted: TrafficWanted, state: TrafficState | None, workload: WorkloadState
) -> TrafficState | None:
    """The object as it should be. None: it cannot be written now without leaving stable empty (R5)."""
    known = (state.stable, state.canary, state.previous) if state is not None else ()
    groups = {group.revision: group for group in known if group is not None}

    def group(revision: str) -> Group:
        backends = tuple(
            Backend(instance=instance.name, url=url(instance.port))
            for instance in sorted(workload.ready(revision), key=lambda i: i.name)
        )
        return Group(revision=revision, backends=backends)

    stable = group(wanted.stable)
    if not stable.backends:
        if wanted.stable not in groups or not groups[wanted.stable].backends:
            return None
        stable = groups[wanted.stable]  # all of stable is unready: the last known addresses stay
    canary = group(wanted.canary) if wanted.canary is not None else None
    return TrafficState(
        route=route,
        version=state.version if state is not None else 0,
        stable=stable,
        canary=canary,
        previous=group(wanted.previous) if wanted.previous is not None else None,
        weight=wanted.weight if canary is not None and canary.backends else 0,
        aborted=state.aborted if state is not None else (),
    )

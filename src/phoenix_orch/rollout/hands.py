"""How a decision is carried out, which differs from platform to platform; here with groups of instances.

The machine thinks in revisions, each with instances of its own. `Hands` make the world so, and show what
they made as the machine thinks of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple, Protocol

from phoenix_orch.rollout import pictures
from phoenix_orch.rollout.facts import Decision, GroupFacts, TrafficWanted
from phoenix_orch.rollout.status import Obstacle, Rollout
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.rollout.templates import Templates
from phoenix_orch.traffic.router import TrafficRouter, TrafficState
from phoenix_orch.workload.workload import InstanceState, Workload, WorkloadState


class Change(NamedTuple):
    """One thing to do to the workload; none waits for another."""

    what: str
    """For people: the same as long as it is the same fault."""
    do: Callable[[], Awaitable[None]]


class Hands(Protocol):
    """What the controller leaves to the platform. What cannot be done raises PhoenixError."""

    def groups(
        self, rollout: Rollout, workload: WorkloadState | None, state: TrafficState | None
    ) -> Mapping[str, GroupFacts] | None:
        """Instances by revision, as the machine counts them. None: not known."""
        ...

    def obstacle(self, rollout: Rollout) -> Obstacle | None:
        """What has to be otherwise before a release may get weight. Known already, or not known: nobody is
        asked for it here, since an abort would wait for the answer (R2)."""
        ...

    def awaits(self, rollout: Rollout) -> str:
        """What its promotion waits for that somebody else has to do, for people; empty: nothing."""
        ...

    def changes(
        self,
        rollout: Rollout,
        decision: Decision,
        workload: WorkloadState | None,
        state: TrafficState | None,
    ) -> Iterator[Change]:
        """What is to do for the instances that are wanted."""
        ...

    async def steered(
        self,
        rollout: Rollout,
        wanted: TrafficWanted,
        state: TrafficState | None,
        workload: WorkloadState,
    ) -> TrafficState | None:
        """The traffic object as it should be. None: it has to stay as it is for now."""
        ...

    async def release(self, rollout: Rollout, state: TrafficState | None, workload: WorkloadState) -> None:
        """Let instances go that nobody is sent to any more."""
        ...

    async def version(self, rollout: Rollout, revision: str) -> str:
        """What people call a revision."""
        ...

    def keep(self, rollout: Rollout, decision: Decision, workload: WorkloadState | None) -> None:
        """Forget what belongs to revisions that have gone."""
        ...

    def forget(self, name: str) -> None:
        """The rollout was removed."""
        ...


class GroupHands:
    """Every revision has instances of its own, and the traffic object names each of them."""

    def __init__(self, store: RolloutStore, router: TrafficRouter, workload: Workload) -> None:
        self._router = router
        self._workload = workload
        self._templates = Templates(store)

    def groups(
        self,
        rollout: Rollout,  # noqa: ARG002 - the protocol's
        workload: WorkloadState | None,
        state: TrafficState | None,  # noqa: ARG002
    ) -> Mapping[str, GroupFacts] | None:
        return pictures.groups(workload)

    def obstacle(self, rollout: Rollout) -> Obstacle | None:  # noqa: ARG002 - the protocol's
        return None

    def awaits(self, rollout: Rollout) -> str:  # noqa: ARG002
        return ""

    def changes(
        self,
        rollout: Rollout,
        decision: Decision,
        workload: WorkloadState | None,
        state: TrafficState | None,  # noqa: ARG002
    ) -> Iterator[Change]:
        present = set(workload.wanted) if workload is not None else set()
        for revision in sorted(present | set(decision.instances)):
            count = decision.instances.get(revision, 0)
            if workload is None or workload.wanted.get(revision, 0) != count:
                yield Change(f"scale {revision}", partial(self._scale, rollout, revision, count))

    async def _scale(self, rollout: Rollout, revision: str, count: int) -> None:
        template, _ = await self._templates.get(rollout, revision)
        await self._workload.scale(rollout.service, template, count)

    async def steered(
        self,
        rollout: Rollout,
        wanted: TrafficWanted,
        state: TrafficState | None,
        workload: WorkloadState,
    ) -> TrafficState | None:
        return pictures.traffic_state(rollout.route, wanted, state, workload)

    async def release(self, rollout: Rollout, state: TrafficState | None, workload: WorkloadState) -> None:
        """Instances that neither the traffic object names nor the data plane uses."""
        if all(instance.state is not InstanceState.DRAINING for instance in workload.instances):
            return
        seen = await self._router.observe(rollout.route)
        if seen.backends is None:
            return
        routed = pictures.routed(workload, state, seen.backends)
        await self._workload.release(rollout.service, routed)

    async def version(self, rollout: Rollout, revision: str) -> str:
        return (await self._templates.get(rollout, revision))[1]

    def keep(self, rollout: Rollout, decision: Decision, workload: WorkloadState | None) -> None:
        status = rollout.status
        needed = {status.stable, status.canary, status.previous, *decision.instances}
        needed |= set(workload.wanted) if workload is not None else self._templates.revisions(rollout.name)
        self._templates.keep(rollout.name, needed)

    def forget(self, name: str) -> None:
        self._templates.forget(name)

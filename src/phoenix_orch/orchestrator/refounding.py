"""Rollouts that the store has lost are founded anew on what serves (R5), and nobody who serves notices.

The traffic object knows who is stable, who was on the way and who is latched; the workload knows what
runs. Stable stays stable. What was on the way is taken off, because the evidence for it is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.orchestrator.declared import Declared
from phoenix_orch.rollout.status import Event, Revision, Rollout, State, Status
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.traffic.router import TrafficRouter, TrafficState
from phoenix_orch.workload.spec import Template
from phoenix_orch.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Foundation:
    """What a rollout is founded on: `rollout` with the status it begins with, not stored yet."""

    rollout: Rollout
    templates: Mapping[str, Template]
    """Of every revision that runs, by revision."""


class Refounding:
    """Finds foundations, and puts rollouts on them."""

    def __init__(
        self,
        store: RolloutStore,
        router: TrafficRouter,
        workload: Workload,
        clock: Clock,
        remembered: Callable[[str], Template | None] = lambda _: None,
    ) -> None:
        """`remembered`: what served last of a service, for when nothing of it runs; None: not known."""
        self._store = store
        self._router = router
        self._workload = workload
        self._clock = clock
        self._remembered = remembered

    async def find(self, wanted: Declared, applied: str | None) -> Foundation | None:
        """What serves on the route of a rollout that the store does not know; None: nothing that is known.

        `applied`: the revision that the configuration asked for last, if that is known. Raises what the
        traffic object's reading raises.
        """
        try:
            traffic = await self._router.read(wanted.route)
            templates = dict(await self._workload.templates(wanted.service))
        except NotFound:
            return None
        stable = traffic.stable.revision
        if stable not in templates:
            kept = self._remembered(wanted.service)
            if kept is None or kept.revision != stable:
                return None
            templates[stable] = kept
        rollout = Rollout(
            name=wanted.name,
            service=wanted.service,
            route=wanted.route,
            spec=wanted.spec,
            replicas=wanted.service_spec.replicas,
            target=stable,
            applied=applied or stable,
            status=Status(
                state=State.IDLE, stable=stable, since=self._clock.now(), message=_told(traffic, templates)
            ),
        )
        return Foundation(rollout, templates)

    async def put(self, found: Foundation) -> Rollout:
        """Store it. Cut off half way it is an ordinary rollout whose first revision serves already."""
        wanted, status = found.rollout, found.rollout.status
        for revision, template in found.templates.items():
            await self._store.add_revision(
                wanted.name,
                Revision(
                    revision=revision,
                    number=0,
                    version=template.version,
                    at=self._clock.now(),
                    change_cause="found running",
                    template=template.model_dump(mode="json", by_alias=True),
                ),
            )
        event = Event(
            at=self._clock.now(), reason="StoreLost", message=status.message, revision=status.stable or ""
        )
        return await self._store.save(await self._store.put(wanted), status, events=[event])


def _told(traffic: TrafficState, templates: Mapping[str, Template]) -> str:
    def named(revision: str) -> str:
        return f"version {templates[revision].version}" if revision in templates else revision

    parts = [
        "the store did not know this rollout: its history, events and observations are lost",
        f"{named(traffic.stable.revision)} serves and stays stable",
    ]
    if traffic.canary is not None and traffic.canary.revision not in traffic.aborted:
        parts.append(f"{named(traffic.canary.revision)} was at {traffic.weight} % and is taken off")
    if traffic.previous is not None and traffic.previous.revision not in traffic.aborted:
        parts.append(f"its bake ends without a result, and {named(traffic.previous.revision)} is let go")
    return "; ".join(parts)

"""What each component does while it leads: drive releases, judge them, take them back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta

from phoenix_orch.health_validator.service import HealthValidator
from phoenix_orch.health_validator.sources.scrape import Scraper
from phoenix_orch.health_validator.sources.source import EvidenceSource
from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.orchestrator.cluster.check_targets import check_target
from phoenix_orch.orchestrator.cluster.evidence import ClusterEvidence, OneSource
from phoenix_orch.orchestrator.cluster.followed import RecordedFirst
from phoenix_orch.orchestrator.cluster.following import Following
from phoenix_orch.orchestrator.cluster.forsaken import Forsaken
from phoenix_orch.orchestrator.cluster.hands import DeploymentHands
from phoenix_orch.orchestrator.cluster.known_metrics import KnownMetrics
from phoenix_orch.orchestrator.cluster.leaving import Leaving
from phoenix_orch.orchestrator.cluster.parts import ClusterParts
from phoenix_orch.orchestrator.cluster.prometheus import Endpoints
from phoenix_orch.orchestrator.cluster.share_witness import WitnessedRouter
from phoenix_orch.orchestrator.cluster.stalls import Stalls
from phoenix_orch.orchestrator.cluster.swept import Swept
from phoenix_orch.orchestrator.cluster.user_calls import call_of, missing
from phoenix_orch.orchestrator.cluster.verifying import ClusterVerifier
from phoenix_orch.rollback_controller.checks import Route
from phoenix_orch.rollback_controller.service import RollbackController
from phoenix_orch.rollout.controller import RolloutController
from phoenix_orch.rollout.gate import RulesGate
from phoenix_orch.rollout.status import Rollout
from phoenix_orch.workload.kubernetes import KubernetesWorkload
from phoenix_orch.workload.workload import WorkloadState

PAGE_PATIENCE = 3.0
"""Seconds for one page of metrics of a pod."""

HINTLESS = timedelta(minutes=1)
"""Changes are heard of as they come; without one nothing is looked at."""


async def orchestrate(parts: ClusterParts, endpoints: Endpoints) -> None:
    """The rollout controller, and what people's hands on Deployments ask of it."""
    workload = KubernetesWorkload(parts.client, parts.watches, clock=parts.clock)
    metrics = KnownMetrics(endpoints)
    router = WitnessedRouter(parts.router, parts.rollouts, endpoints)
    controller = RolloutController(
        parts.store,
        router,
        parts.view,
        parts.clock,
        ClusterVerifier(parts.store, parts.rollouts, parts.view, parts.clock, parts.main),
        DeploymentHands(
            parts.rollouts, parts.view, workload, metrics.obstacle, lambda one: missing(one, parts.main(one))
        ),
        gate=RulesGate(parts.rules()),
    )
    following = Following(
        parts.store,
        parts.rollouts,
        parts.view,
        workload,
        watches=parts.watches,
        leaving=Leaving(parts.router, workload, clock=time.monotonic),
        forsaken=Forsaken(parts.router, workload, clock=time.monotonic),
        swept=Swept(parts.store if parts.acts is None else RecordedFirst(parts.acts, parts.store)),
        stalls=Stalls(parts.store, controller.faults, clock=parts.clock),
        clock=parts.clock,
        changed=controller.wake_one,
    )

    async def hear() -> None:
        async for name in parts.store.watch(timeout=HINTLESS):
            if name:
                following.wake(name)
                controller.wake_one(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(metrics.run(), name="metrics that are known")
        group.create_task(router.run(), name="shares that are counted")
        group.create_task(hear(), name="changes of rollouts")
        group.create_task(following.run(), name="wishes")
        group.create_task(controller.run(), name="rollout controller")
        if parts.acts is not None:
            group.create_task(parts.acts.run(), name="acts")


async def validate_by(parts: ClusterParts, endpoints: Endpoints) -> None:
    """The health validator, with the numbers that each Rollout asks for."""
    async with Scraper(timeout=PAGE_PATIENCE) as scraper:
        evidence = ClusterEvidence(parts.rollouts, endpoints, scraper, lambda one: parts.view.scene(one).pods)
        await validate(parts, evidence)


async def validate(parts: ClusterParts, source: EvidenceSource) -> None:
    """The health validator, with numbers from `source`."""
    ready = parts.view.of_the_ready()
    await HealthValidator(
        parts.store, parts.router, ready, OneSource(source), parts.clock, every_verdict=True
    ).run()


async def roll_back(parts: ClusterParts) -> None:
    """The rollback controller."""

    def targets(rollout: Rollout, revision: str, workload: WorkloadState) -> Sequence[str]:
        if not rollout.spec.checks or not workload.ready(revision):
            return ()
        try:
            one = parts.rollouts.named(rollout.name)
            named = (one.spec.service, one.spec.canary_service)
            services = [each for name in named if (each := parts.view.service(one, name)) is not None]
        except NotFound:  # whatever else speaks against the revision is judged all the same
            return ()
        found = check_target(one, rollout.status, revision, services)
        return () if found is None else (found,)

    def route(name: str) -> Route:
        try:
            one = parts.rollouts.of_route(name)
        except NotFound:
            return Route()
        found = call_of(one, parts.main(one))
        return found if isinstance(found, Route) else Route()

    await RollbackController(
        parts.store, parts.router, parts.view, parts.clock, route=route, targets=targets
    ).run()

"""`phoenix serve COMPONENT --kubernetes`: the controllers against the API server of a cluster.

Each component is one process, or several of which one leads: its Lease is named like its Deployment. What it
knows comes from watches; every write is fenced by the Lease. The log beside the Rollouts (events, history,
verdicts with their evidence) is in a Redis or Valkey; ADR 0016 says what works without it.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from phoenix_orch.health_validator.service import HealthValidator
from phoenix_orch.health_validator.sources.scrape import Scraper
from phoenix_orch.health_validator.sources.source import EvidenceSource
from phoenix_orch.kernel.clock import Clock, RealClock
from phoenix_orch.kernel.errors import Invalid, NotFound
from phoenix_orch.kube.caches import Caches
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.lanes import NORMAL, Limits
from phoenix_orch.kube.leader import LeaderElector, Leadership
from phoenix_orch.kube.lease import LeaseTiming
from phoenix_orch.kube.recorder import Recorder
from phoenix_orch.kube.resources import CONFIG_MAPS, INGRESSES, ROLLOUTS, Object
from phoenix_orch.observability import metrics as counted
from phoenix_orch.observability.listener import serve_metrics
from phoenix_orch.observability.tracing_exporter import exported
from phoenix_orch.orchestrator import audit_keeping, audit_mirror, backup_tasks, drill_tasks
from phoenix_orch.orchestrator.api_spec import ApiSpec
from phoenix_orch.orchestrator.approving import Approving
from phoenix_orch.orchestrator.audited import AuditedOperations
from phoenix_orch.orchestrator.cluster.approvals import SharedApprovals
from phoenix_orch.orchestrator.cluster.backing_up import home_in, state_layout
from phoenix_orch.orchestrator.cluster.check_targets import check_target
from phoenix_orch.orchestrator.cluster.declared import Declared, Rollouts
from phoenix_orch.orchestrator.cluster.evidence import ClusterEvidence, OneSource
from phoenix_orch.orchestrator.cluster.file import FollowedFile, destroying
from phoenix_orch.orchestrator.cluster.followed import ClusterEvents, RecordedFirst, SharedProgress
from phoenix_orch.orchestrator.cluster.following import Following
from phoenix_orch.orchestrator.cluster.forsaken import Forsaken
from phoenix_orch.orchestrator.cluster.freezing import NAME, WatchedRules
from phoenix_orch.orchestrator.cluster.hands import DeploymentHands
from phoenix_orch.orchestrator.cluster.info import Office, info
from phoenix_orch.orchestrator.cluster.known_metrics import KnownMetrics
from phoenix_orch.orchestrator.cluster.leaving import Leaving
from phoenix_orch.orchestrator.cluster.logins import SharedLogins
from phoenix_orch.orchestrator.cluster.operations import ClusterOperations
from phoenix_orch.orchestrator.cluster.prometheus import Endpoints
from phoenix_orch.orchestrator.cluster.reach import log_prefix
from phoenix_orch.orchestrator.cluster.recording import Standing, audit_log, recorder_on
from phoenix_orch.orchestrator.cluster.routing import ClusterRouter
from phoenix_orch.orchestrator.cluster.seconded_tasks import SecondedTasks
from phoenix_orch.orchestrator.cluster.sessions import SharedSessions
from phoenix_orch.orchestrator.cluster.share_witness import WitnessedRouter
from phoenix_orch.orchestrator.cluster.stalls import Stalls
from phoenix_orch.orchestrator.cluster.standing import kept_from_leading
from phoenix_orch.orchestrator.cluster.store import WatchedStore
from phoenix_orch.orchestrator.cluster.swept import Swept
from phoenix_orch.orchestrator.cluster.telling import Tell, Telling, sending
from phoenix_orch.orchestrator.cluster.tokens import SharedTokens
from phoenix_orch.orchestrator.cluster.user_calls import call_of, missing
from phoenix_orch.orchestrator.cluster.verifying import ClusterVerifier
from phoenix_orch.orchestrator.cluster.view import ClusterView
from phoenix_orch.orchestrator.cluster.watched import WatchedSight
from phoenix_orch.orchestrator.followed_events import FollowedEvents
from phoenix_orch.orchestrator.kept_answers import MemoryAnswers, SpareAnswers, ValkeyAnswers
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.orchestrator.task_engine import TaskEngine
from phoenix_orch.orchestrator.up import ending_signals, until
from phoenix_orch.rollback_controller.checks import Route
from phoenix_orch.rollback_controller.service import RollbackController
from phoenix_orch.rollout.controller import RolloutController
from phoenix_orch.rollout.gate import RulesGate
from phoenix_orch.rollout.status import Rollout
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.rollout.store.valkey import ValkeyStore
from phoenix_orch.runtime.logs import configure_logs
from phoenix_orch.runtime.memory import return_large_blocks, set_aside_what_stays
from phoenix_orch.runtime.probes import serve_probes
from phoenix_orch.runtime.stuck_loop import stuck_loop_told
from phoenix_orch.security.audit_log import AuditRecords
from phoenix_orch.security.kube_review import KubeReviews
from phoenix_orch.security.recorder import Recorder as AuditRecorder
from phoenix_orch.security.shared_audit import SharedAuditLog
from phoenix_orch.tasks.port import Tasks
from phoenix_orch.traffic.cached_reads import CachedReads
from phoenix_orch.traffic.kube_router import SETTLED
from phoenix_orch.workload.deployment.marks import GROUP
from phoenix_orch.workload.kubernetes import KubernetesWorkload
from phoenix_orch.workload.kubernetes_objects import Watches
from phoenix_orch.workload.workload import WorkloadState

LEASES = {
    "orchestrator": "master-orchestrator",
    "health-validator": "health-validator",
    "rollback-controller": "rollback-controller",
}
"""Of each component, named as its Deployment."""
LEASE = LeaseTiming(duration=10, renew_deadline=7.5, retry=1.5)
"""A leader that is killed is followed within 12 s: ADR 0024."""

PAGE_PATIENCE = 3.0
"""Seconds for one page of metrics of a pod."""

HINTLESS = timedelta(minutes=1)
"""Changes are heard of as they come; without one nothing is looked at."""

_log = structlog.get_logger("phoenix")


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What a component is told at its start."""

    store_url: str
    """Of the Redis or Valkey with the log."""
    namespace: str | None = None
    """None: that of the kubeconfig's context, or of the pod."""
    kubeconfig: Path | None = None
    context: str | None = None
    prometheus: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Addresses by the name that Rollouts call them."""
    probes: tuple[str, int] | None = None
    """Where /livez and /readyz are answered; None: nowhere."""
    metrics: tuple[str, int] | None = None
    """Where /metrics is answered; None: nowhere."""
    api: tuple[str, int] | None = None
    """Where the orchestrator's API is answered; None: nowhere."""
    tls: tuple[Path, Path] | None = None
    """Certificate chain and key of the API; None: it speaks plain HTTP."""
    file: Path | None = None
    """The orchestrator's configuration: its tasks, and who gets in; None, or one that is not there: none."""
    app: str | None = None
    """The label `app` of the pod that this runs in; None: in no pod."""


@dataclass(frozen=True, slots=True)
class ClusterParts:
    """The ports of one namespace. All writes go through `client`."""

    client: KubeClient
    clock: Clock
    rollouts: Rollouts
    store: WatchedStore
    router: ClusterRouter
    view: ClusterView
    watches: Watches
    main: Callable[[Declared], Object | None]
    """The first Ingress of a Rollout; it asks nobody."""
    rules: Callable[[], WatchedRules]
    """When releases may begin; watched from the first call on."""
    acts: FollowedEvents | None = None
    """Puts what is done into the audit log; None: there is none."""


Work = Callable[[ClusterParts], Awaitable[None]]
ServeApi = Callable[["ApiParts"], Awaitable[None]]
"""Serves until cancelled."""


@dataclass(frozen=True, slots=True)
class ApiParts:
    """What the API of one replica is made of."""

    operations: Operations
    reviews: KubeReviews
    """Whose a token is."""
    listen: tuple[str, int]
    tls: tuple[Path, Path] | None
    spec: ApiSpec
    """How many may ask how often, and by which names."""
    audit: AuditRecords
    """What was done by whom, at any replica."""
    acts: AuditRecorder
    """Writes there."""
    sessions: SharedSessions
    """Of browsers."""
    tokens: SharedTokens
    """Of programs, and of people elsewhere."""
    approving: Approving
    """What destroys waits for a second person."""
    logins: SharedLogins
    """At an identity provider, that are under way."""
    namespace: str
    """The one that is served."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a component waits for a cluster, which no release has a word in. Seconds."""

    settled: float = SETTLED
    """Until what a traffic object says is believed to be obeyed."""
    lease: LeaseTiming = LEASE
    limits: Limits = NORMAL
    """Of ordinary calls to the API server."""


def run_in_cluster(component: str, settings: ClusterSettings, serve_api: ServeApi | None = None) -> int:
    """Run one component until a signal comes. Raises PhoenixError where it cannot start.

    `serve_api`: serves the orchestrator's API, where `settings` say that there is one.
    """
    configure_logs(json=True)
    return_large_blocks()
    work = _work(component, settings)
    with exported(LEASES[component]):
        return asyncio.run(_run(component, settings, work, serve_api))


def _work(component: str, settings: ClusterSettings) -> Work:
    if component not in LEASES:
        raise Invalid(f"there is no component {component!r}", remedy=f"one of: {', '.join(LEASES)}")
    if component == "rollback-controller":
        return roll_back
    work = validate_by if component == "health-validator" else orchestrate

    async def with_endpoints(parts: ClusterParts) -> None:
        endpoints = Endpoints(settings.prometheus)
        try:
            await work(parts, endpoints)
        finally:
            await endpoints.aclose()

    return with_endpoints


async def _run(component: str, settings: ClusterSettings, work: Work, serve_api: ServeApi | None) -> int:
    with ending_signals() as stop, stuck_loop_told():
        return await until(stop, [serve(component, settings, work, serve_api=serve_api)])


async def serve(
    component: str,
    settings: ClusterSettings,
    work: Work,
    pace: Pace = Pace(),
    *,
    serve_api: ServeApi | None = None,
) -> None:
    """Know the cluster, stand for election, and do `work` in every term of office, until cancelled. The API
    is answered all the time, in a term and out of it.

    A canary of the component knows the cluster, answers probes and the API, and leaves it at that: it runs no
    tasks either.

    Raises PhoenixError where it cannot start, and what `work` raises.
    """
    target = load(settings.kubeconfig, context=settings.context, namespace=settings.namespace)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(KubeClient(target, component=component, normal=pace.limits))
        caches = await stack.enter_async_context(Caches(client))
        log = ValkeyStore(settings.store_url, prefix=log_prefix(client.namespace))
        stack.push_async_callback(log.close)
        looks = Looks(caches, client)
        elector = LeaderElector(client, LEASES[component], timing=pace.lease)
        office = Office()
        audit = _audit_log(component, settings, client.namespace)
        acts = None if audit is None else recorder_on(audit)

        async def lead(leadership: Leadership) -> None:
            own = client.fenced(leadership.remaining)
            recorder = Recorder(own, component=f"{GROUP}/{component}", instance=elector.identity)
            async with sending(recorder):
                with counted.leading(component), office.held():
                    parts = parts_of(own, looks, log, Telling(recorder, looks.rollouts), pace)
                    await work(parts if audit is None else replace(parts, acts=_acts(parts, log, audit)))

        async with asyncio.TaskGroup() as group:
            if settings.probes is not None:
                probes = serve_probes(
                    *settings.probes, looks.not_ready, _listening, answered=counted.request_answered
                )
                group.create_task(probes)
            if settings.metrics is not None:
                group.create_task(serve_metrics(*settings.metrics, _measured))
            if serve_api is not None and settings.api is not None and audit is not None and acts is not None:
                asked = await stack.enter_async_context(KubeClient(target, component=f"{component}-api"))
                file = FollowedFile(settings.file)
                stack.push_async_callback(acts.drain)
                backing_up = backup_tasks.Work(lambda: file.held, state_layout(), acts, home_in(target))
                book = SharedApprovals(log.client, prefix=log_prefix(client.namespace))
                approving = Approving(book, acts, now=lambda: datetime.now(UTC))
                engine = TaskEngine(
                    settings.store_url,
                    lambda: file.held,
                    audit_keeping.prune_kind(audit, lambda: file.held),
                    audit_mirror.mirror_kind(audit, backing_up),
                    *backup_tasks.kinds(backing_up),
                    *drill_tasks.kinds(backing_up),
                    own=(audit_keeping.SCHEDULE,),
                    following=lambda: [
                        *audit_mirror.schedules(file.held),
                        *backup_tasks.schedules(file.held),
                        *drill_tasks.schedules(file.held),
                    ],
                    prefix=f"{log_prefix(client.namespace)}tasks:",
                )
                stack.push_async_callback(engine.close)
                operations = operations_of(
                    client,
                    looks,
                    log,
                    pace,
                    info=functools.partial(info, client.namespace, looks.not_ready, log, office),
                    tasks=SecondedTasks(engine.tasks, approving, lambda: destroying(file.held)),
                )
                audited = AuditedOperations(
                    operations, acts, standing=Standing(looks.rollouts), applied=lambda: None
                )
                api = ApiParts(
                    operations=audited,
                    reviews=KubeReviews(asked),
                    sessions=SharedSessions(log.client, prefix=log_prefix(client.namespace)),
                    tokens=SharedTokens(log.client, prefix=log_prefix(client.namespace)),
                    approving=approving,
                    logins=SharedLogins(log.client, prefix=log_prefix(client.namespace)),
                    namespace=client.namespace,
                    listen=settings.api,
                    tls=settings.tls,
                    spec=file.held.api.spec(),
                    audit=audit,
                    acts=acts,
                )
                await backup_tasks.wake_left(backing_up.layout)
                group.create_task(acts.run(), name="audit log")
                group.create_task(_as_task(serve_api(api)), name="api")
                group.create_task(file.run(), name="configuration")
                if not kept_from_leading(settings.app, LEASES[component]):
                    group.create_task(engine.run(), name="tasks")
            await looks.synced()
            set_aside_what_stays()
            _log.info("knows the cluster", component=component, namespace=client.namespace)
            if why := kept_from_leading(settings.app, LEASES[component]):
                _log.warning("does not stand for election", component=component, reason=why)
                await asyncio.Event().wait()  # until cancelled
            await elector.run(lead)


def _audit_log(component: str, settings: ClusterSettings, namespace: str) -> SharedAuditLog | None:
    """Of the component that answers the API, which has its retention, too."""
    if component != "orchestrator" or settings.api is None:
        return None
    return audit_log(settings.store_url, namespace)


def _acts(parts: ClusterParts, log: ValkeyStore, audit: SharedAuditLog) -> FollowedEvents:
    return FollowedEvents(ClusterEvents(parts.store, log), SharedProgress(audit), recorder_on(audit).made)


async def _as_task(work: Awaitable[None]) -> None:
    await work


def _listening(port: int) -> None:
    _log.info("answers /livez and /readyz", port=port)


def _measured(port: int) -> None:
    _log.info("answers /metrics", port=port)


class Looks:
    """The watches of one process, whether it leads or not: so that who takes over knows everything."""

    def __init__(self, caches: Caches, client: KubeClient) -> None:
        self.cache = caches.of(ROLLOUTS)
        self.rollouts = Rollouts.watching(self.cache)
        self.watches = Watches.of(caches)
        self.cached = CachedReads(caches, client)
        self._caches = caches

    async def synced(self) -> None:
        await self.cache.synced()
        await self.rollouts.read()
        await self.watches.synced()

    def main(self, one: Declared) -> Object | None:
        """The first Ingress of a Rollout, as its watch knows it."""
        name = one.spec.traffic.ingress
        return self._caches.of(INGRESSES).get(name, one.namespace) if name is not None else None

    def rules(self) -> WatchedRules:
        """When releases may begin; a watch of one ConfigMap."""
        cache = self._caches.of(CONFIG_MAPS, fields=f"metadata.name={NAME}")
        return WatchedRules(cache, cache.selection.namespace)

    def not_ready(self) -> str:
        """Which watches have not shown everything once."""
        waiting = [one for one in (self.cache, *self.watches.caches) if not one.is_synced]
        return ", ".join(f"{one.selection.resource}: {one.fault or 'not listed yet'}" for one in waiting)


def operations_of(
    client: KubeClient,
    looks: Looks,
    log: ValkeyStore,
    pace: Pace,
    *,
    info: Callable[[], Awaitable[dict[str, Any]]],
    tasks: Tasks,
) -> ClusterOperations:
    """What people may ask of this process, whether it leads or not."""
    rollouts, namespace = looks.rollouts, client.namespace
    store = WatchedStore(client, log, looks.cache, rollouts, namespace=namespace, clock=RealClock())
    router = ClusterRouter(client, namespace, rollouts, cached=looks.cached, settled=pace.settled)
    sight = WatchedSight(looks.cache, rollouts, looks.watches, router, store, log)
    answers = SpareAnswers(ValkeyAnswers(log.client, prefix=log_prefix(namespace)), MemoryAnswers())
    return ClusterOperations(client, sight, log, info=info, changes=store.watch, tasks=tasks, answers=answers)


def parts_of(client: KubeClient, looks: Looks, log: RolloutStore, tell: Tell, pace: Pace) -> ClusterParts:
    """The parts of one term of office."""
    clock, namespace = RealClock(), client.namespace
    return ClusterParts(
        client=client,
        clock=clock,
        rollouts=looks.rollouts,
        store=WatchedStore(
            client, log, looks.cache, looks.rollouts, namespace=namespace, clock=clock, tell=tell
        ),
        router=ClusterRouter(client, namespace, looks.rollouts, cached=looks.cached, settled=pace.settled),
        view=ClusterView(client, looks.watches, looks.rollouts, clock),
        watches=looks.watches,
        main=looks.main,
        rules=looks.rules,
    )


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

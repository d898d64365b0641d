"""`phoenix serve COMPONENT --kubernetes`: the controllers against the API server of a cluster.

Each component is one process, or several of which one leads: its Lease is named like its Deployment. What it
knows comes from watches; every write is fenced by the Lease. The log beside the Rollouts (events, history,
verdicts with their evidence) is in a Redis or Valkey; ADR 0016 says what works without it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from phoenix_orch.kernel.clock import RealClock
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kube.caches import Caches
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import Target, load
from phoenix_orch.kube.leader import LeaderElector, Leadership
from phoenix_orch.kube.recorder import Recorder
from phoenix_orch.observability import metrics as counted
from phoenix_orch.observability.listener import serve_metrics
from phoenix_orch.observability.tracing_exporter import exported
from phoenix_orch.orchestrator import audit_keeping, audit_mirror, backup_tasks, drill_tasks
from phoenix_orch.orchestrator.api_spec import ApiSpec
from phoenix_orch.orchestrator.approving import Approving
from phoenix_orch.orchestrator.audited import AuditedOperations
from phoenix_orch.orchestrator.cluster.approvals import SharedApprovals
from phoenix_orch.orchestrator.cluster.backing_up import home_in, state_layout
from phoenix_orch.orchestrator.cluster.components import orchestrate, roll_back, validate_by
from phoenix_orch.orchestrator.cluster.file import FollowedFile, destroying
from phoenix_orch.orchestrator.cluster.followed import ClusterEvents, SharedProgress
from phoenix_orch.orchestrator.cluster.info import Office, info
from phoenix_orch.orchestrator.cluster.logins import SharedLogins
from phoenix_orch.orchestrator.cluster.operations import ClusterOperations
from phoenix_orch.orchestrator.cluster.parts import LEASES, ORDINARY, ClusterParts, Looks, Pace, parts_of
from phoenix_orch.orchestrator.cluster.prometheus import Endpoints
from phoenix_orch.orchestrator.cluster.reach import log_prefix
from phoenix_orch.orchestrator.cluster.recording import Standing, audit_log, recorder_on
from phoenix_orch.orchestrator.cluster.routing import ClusterRouter
from phoenix_orch.orchestrator.cluster.seconded_tasks import SecondedTasks
from phoenix_orch.orchestrator.cluster.sessions import SharedSessions
from phoenix_orch.orchestrator.cluster.standing import kept_from_leading
from phoenix_orch.orchestrator.cluster.store import WatchedStore
from phoenix_orch.orchestrator.cluster.telling import Telling, sending
from phoenix_orch.orchestrator.cluster.tokens import SharedTokens
from phoenix_orch.orchestrator.cluster.watched import WatchedSight
from phoenix_orch.orchestrator.followed_events import FollowedEvents
from phoenix_orch.orchestrator.kept_answers import MemoryAnswers, SpareAnswers, ValkeyAnswers
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.orchestrator.task_engine import TaskEngine
from phoenix_orch.orchestrator.up import ending_signals, until
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
from phoenix_orch.workload.deployment.marks import GROUP

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
    pace: Pace = ORDINARY,
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
        kept_out = kept_from_leading(settings.app, LEASES[component])

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
            if serve_api is not None and settings.api is not None and audit is not None:
                asked = await stack.enter_async_context(KubeClient(target, component=f"{component}-api"))
                place = _Place(settings, target, client, looks, log, pace, office)
                answering = await stack.enter_async_context(_answering(place, audit, settings.api, asked))
                answering.start(group, serve_api, tasks=not kept_out)
            await looks.synced()
            set_aside_what_stays()
            _log.info("knows the cluster", component=component, namespace=client.namespace)
            if kept_out:
                _log.warning("does not stand for election", component=component, reason=kept_out)
                await asyncio.Event().wait()  # until cancelled
            await elector.run(lead)


@dataclass(frozen=True, slots=True)
class _Place:
    """One process of a component, whether it leads or not."""

    settings: ClusterSettings
    target: Target
    client: KubeClient
    looks: Looks
    log: ValkeyStore
    pace: Pace
    office: Office


@dataclass(frozen=True, slots=True)
class _Answering:
    """The API of one replica, and what runs beside it."""

    api: ApiParts
    file: FollowedFile
    engine: TaskEngine

    def start(self, group: asyncio.TaskGroup, serve_api: ServeApi, *, tasks: bool) -> None:
        """Run it in `group`; the tasks, too, where this replica runs any."""
        group.create_task(self.api.acts.run(), name="audit log")
        group.create_task(_as_task(serve_api(self.api)), name="api")
        group.create_task(self.file.run(), name="configuration")
        if tasks:
            group.create_task(self.engine.run(), name="tasks")


@asynccontextmanager
async def _answering(
    place: _Place, audit: SharedAuditLog, listen: tuple[str, int], asked: KubeClient
) -> AsyncIterator[_Answering]:
    """What the API is answered with at `listen`, until the end of the context. `asked`: about tokens."""
    settings, client, log = place.settings, place.client, place.log
    prefix = log_prefix(client.namespace)
    file, acts = FollowedFile(settings.file), recorder_on(audit)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(acts.drain)
        backing_up = backup_tasks.Work(lambda: file.held, state_layout(), acts, home_in(place.target))
        approving = Approving(SharedApprovals(log.client, prefix=prefix), acts, now=lambda: datetime.now(UTC))
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
            prefix=f"{prefix}tasks:",
        )
        stack.push_async_callback(engine.close)
        operations = operations_of(
            client,
            place.looks,
            log,
            place.pace,
            info=functools.partial(info, client.namespace, place.looks.not_ready, log, place.office),
            tasks=SecondedTasks(engine.tasks, approving, lambda: destroying(file.held)),
        )
        api = ApiParts(
            operations=AuditedOperations(
                operations, acts, standing=Standing(place.looks.rollouts), applied=lambda: None
            ),
            reviews=KubeReviews(asked),
            sessions=SharedSessions(log.client, prefix=prefix),
            tokens=SharedTokens(log.client, prefix=prefix),
            approving=approving,
            logins=SharedLogins(log.client, prefix=prefix),
            namespace=client.namespace,
            listen=listen,
            tls=settings.tls,
            spec=file.held.api.spec(),
            audit=audit,
            acts=acts,
        )
        await backup_tasks.wake_left(backing_up.layout)
        yield _Answering(api, file, engine)


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

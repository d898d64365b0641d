"""The master-orchestrator: the rollout controller, what it acts on, and the doors for people and programs."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import structlog

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.observability import metrics
from phoenix_orch.orchestrator import audit_keeping, audit_mirror, backup_tasks, drill_tasks
from phoenix_orch.orchestrator.api_spec import api_spec
from phoenix_orch.orchestrator.api_work import ApiWork, ServeApi
from phoenix_orch.orchestrator.applying import Applying
from phoenix_orch.orchestrator.audited import AuditedOperations
from phoenix_orch.orchestrator.components import Parts, component_states
from phoenix_orch.orchestrator.evidence import ArmReader
from phoenix_orch.orchestrator.flow import declared_rules, rules_of
from phoenix_orch.orchestrator.followed_events import FileProgress, FollowedEvents
from phoenix_orch.orchestrator.freeze_book import FileBook
from phoenix_orch.orchestrator.identity import Doorkeeper
from phoenix_orch.orchestrator.kept_answers import ValkeyAnswers
from phoenix_orch.orchestrator.logs import WorkloadLogs
from phoenix_orch.orchestrator.operations import OrchestratorOperations
from phoenix_orch.orchestrator.task_engine import TaskEngine
from phoenix_orch.orchestrator.verification import Verifier
from phoenix_orch.orchestrator.views import ServiceView
from phoenix_orch.rollout.aborts_by_hand import AbortNotes
from phoenix_orch.rollout.controller import RolloutController
from phoenix_orch.rollout.gate import Rules, RulesGate
from phoenix_orch.rollout.hands import GroupHands
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.runtime.memory import set_aside_what_stays
from phoenix_orch.security.recorder import Recorder
from phoenix_orch.workload.process import ProcessWorkload

LOOK = 1.0
"""Real seconds between two looks whether the store still knows what was applied."""

FIRST_LOOK = 0.2
"""The same for whether services are ready yet; growing up to the other."""

_log = structlog.get_logger("phoenix")


class Master:
    """Put together from parts that are open already; `run` until cancelled."""

    def __init__(
        self,
        parts: Parts,
        workload: ProcessWorkload,
        applying: Applying,
        serve_api: ServeApi,
        listening: Callable[[], None],
        *,
        recorder: Recorder,
        listen: str | None = None,
    ) -> None:
        """`listening` is called once the API can be asked. `listen`: where that is over TCP; None: where the
        configuration says.

        Raises Invalid where that cannot be, Terminal where what is kept of tokens cannot be read.
        """
        self._parts = parts
        self._workload = workload
        self._applying = applying
        self._serve_api = serve_api
        self._listening = listening
        self._api_spec = api_spec(applying.config, listen)
        self._api_address = ""
        self._identity = Doorkeeper(parts.layout, recorder)
        self.book = FileBook(parts.layout.freezes)
        backing_up = backup_tasks.Work(lambda: applying.config, parts.layout, recorder)
        self._task_engine = TaskEngine(
            parts.store_url,
            lambda: applying.config,
            audit_keeping.prune_kind(recorder.log, lambda: applying.config),
            audit_mirror.mirror_kind(recorder.log, backing_up),
            *backup_tasks.kinds(backing_up),
            *drill_tasks.kinds(backing_up),
            own=(audit_keeping.SCHEDULE,),
            following=lambda: [
                *audit_mirror.schedules(applying.config),
                *backup_tasks.schedules(applying.config),
                *drill_tasks.schedules(applying.config),
            ],
        )
        logs = WorkloadLogs(parts.layout.root)
        verifier = Verifier(
            parts.store,
            workload,
            parts.clock,
            logs,
            ArmReader(parts.sources, workload, parts.clock),
            route=applying.call_address,
        )
        self.controller = RolloutController(
            parts.store,
            parts.router,
            workload,
            parts.clock,
            verifier,
            GroupHands(parts.store, parts.router, workload),
            notes=AbortNotes(parts.layout.aborts),
            gate=RulesGate(self._rules),
        )
        self._operations = OrchestratorOperations(
            store=parts.store,
            router=parts.router,
            workload=workload,
            clock=parts.clock,
            applying=applying,
            logs=logs,
            wake=self.controller.wake,
            info=self.info,
            speed=parts.speed,
            faults=self.controller.faults,
            answers=ValkeyAnswers(parts.store.client),
            book=self.book,
            tasks=self._task_engine.tasks,
        )
        self.operations = AuditedOperations(
            self._operations, recorder, standing=self._standing, applied=lambda: applying.config
        )
        self._acts = FollowedEvents(
            parts.store, FileProgress(recorder, parts.layout.followed), recorder.made, parts.clock.wall
        )

    async def _standing(self, name: str) -> dict[str, Any] | None:
        """Where a rollout stands, for the audit log."""
        try:
            rollout = await self._parts.store.get(name)
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

    def _rules(self) -> Rules:
        """When releases may begin, as it was applied and said."""
        return rules_of(declared_rules(self._applying.ruling), self.book.said)

    async def info(self) -> dict[str, Any]:
        """Who runs here."""
        return {
            "version": version("phoenix-orchestrator"),
            "pid": os.getpid(),
            "dataDir": str(self._parts.layout.root),
            "speed": self._parts.speed,
            "router": self._applying.router_spec.url,
            "api": self._api_address,
            "components": await component_states(self._parts),
        }

    async def run(self) -> None:
        with metrics.leading("orchestrator"):
            await self._run()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.controller.run(), name="rollout controller")
            group.create_task(self._follow_workload(), name="workload changes")
            group.create_task(self._follow_store(), name="store losses")
            group.create_task(self._tell_ready(), name="what serves")
            group.create_task(self._acts.run(), name="acts in the audit log")
            group.create_task(self._tasks(), name="tasks")
            group.create_task(self._serve_api(self._api_work()), name="api")

    async def _tasks(self) -> None:
        """An application that a killed run has left at rest does not wait for the next backup."""
        await backup_tasks.wake_left(self._parts.layout)
        await self._task_engine.run()

    def _api_work(self) -> ApiWork:
        def answering(address: str) -> None:
            self._api_address = address

        return ApiWork(
            operations=self.operations,
            layout=self._parts.layout,
            identity=self._identity,
            spec=self._api_spec,
            listening=self._listening,
            answering=answering,
        )

    async def _follow_store(self) -> None:
        """A store that has lost its content is noticed at the start, and within a second later on."""
        faults = Faults(structlog.get_logger("phoenix"))
        while True:
            try:
                await self._operations.recover()
            except PhoenixError as error:
                faults.tell("lost rollouts", error=error)
            else:
                faults.mended("lost rollouts")
            await asyncio.sleep(LOOK)

    async def _tell_ready(self) -> None:
        """Once for each service: it serves, and where; after every start, also where it served before."""
        told: set[str] = set()
        pause = FIRST_LOOK
        while True:
            found: list[ServiceView] = []
            with contextlib.suppress(PhoenixError):  # told where it matters
                found = await self.operations.services()
            for view in found:
                if view.name not in told and view.ready and await self._routed(view):
                    told.add(view.name)
                    _log.info(
                        "ready",
                        service=view.name,
                        version=view.version,
                        instances=f"{view.ready}/{view.replicas}",
                        address=view.route,
                    )
            if found and told >= {view.name for view in found}:
                set_aside_what_stays()
                return
            await asyncio.sleep(pause)
            pause = min(LOOK, pause * 1.5)

    async def _routed(self, view: ServiceView) -> bool:
        """The router sends its requests somewhere."""
        try:
            rollout = await self._parts.store.get(view.rollout)
            seen = await self._parts.router.observe(rollout.route)
        except PhoenixError:
            return False
        return seen.weight is not None

    async def _follow_workload(self) -> None:
        """An instance that became ready or died is routed, or no longer routed, at once."""
        while True:
            await self._workload.changed.wait()
            for service in self._workload.take_changed():
                self.controller.wake(service)

"""The questions that `Client` asks the API, answered by the objects of a cluster: no API of ours need run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Self

from phoenix_orch.health_validator.observation import Observation
from phoenix_orch.orchestrator.cluster import looking, person, starting
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.cluster.freezing import flow_of
from phoenix_orch.orchestrator.cluster.person import AbortedInCluster
from phoenix_orch.orchestrator.cluster.reach import Reach, reached
from phoenix_orch.orchestrator.flow import Flow
from phoenix_orch.orchestrator.flow_views import FreezeView, GroupView, OverrideView
from phoenix_orch.orchestrator.views import Change, RolloutView
from phoenix_orch.rollout.dora import DoraReport
from phoenix_orch.rollout.freezes import UnderWay
from phoenix_orch.rollout.status import CommandKind, Event, Release, Revision
from phoenix_orch.runtime.users import name_of


class ClusterClient:
    """Connected while its `with` block runs. Every method raises the errors of `kernel/errors.py`."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()

    def __enter__(self) -> Self:
        try:
            self._there = self._runner.run(self._connect())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._runner.run(self._stack.aclose())
        finally:
            self._runner.close()

    async def _connect(self) -> Reach:
        return await self._stack.enter_async_context(reached(self._access))

    # -- reading -----------------------------------------------------------------------------------

    def speed(self) -> float:
        """A cluster's time is everybody's."""
        return 1.0

    def rollouts(self) -> list[RolloutView]:
        return self._runner.run(looking.views(self._there))

    def rollout(self, name: str, *, pods: bool = False) -> RolloutView:
        return self._runner.run(looking.view(self._there, name, pods=pods))

    def events(self, name: str, *, limit: int = 100) -> list[Event]:
        return self._runner.run(looking.events(self._there, name, limit=limit))

    def history(self, name: str, *, limit: int = 50) -> list[Release]:
        return self._runner.run(looking.history(self._there, name, limit=limit))

    def revisions(self, name: str) -> list[Revision]:
        return self._runner.run(looking.revisions(self._there, name))

    def observations(
        self, name: str, *, since: datetime | None = None, limit: int = 1000
    ) -> list[Observation]:
        return self._runner.run(looking.observations(self._there, name, since=since, limit=limit))

    def freezes(self) -> list[FreezeView]:
        """Those in force or to come."""
        return self._runner.run(self._flow.freezes())

    def groups(self) -> list[GroupView]:
        return self._runner.run(self._flow.groups())

    def dora(self, since: timedelta, rollout: str | None = None) -> DoraReport:
        """Numbers of delivery over the time `since` now. Raises NotFound without a log."""
        return self._runner.run(self._flow.dora(since, rollout))

    @property
    def _flow(self) -> Flow:
        return flow_of(self._there)

    # -- changing ----------------------------------------------------------------------------------

    def start_freeze(
        self,
        name: str | None = None,
        *,
        until: datetime | None = None,
        lasting: timedelta | None = None,
        rollouts: tuple[str, ...] = (),
        reason: str,
        under_way: UnderWay = "continue",
        dry_run: bool = False,
    ) -> FreezeView:
        """Begin a freeze now. `lasting`: in place of `until`; neither: until a person ends it."""
        return self._runner.run(
            self._flow.start_freeze(
                name,
                until=until,
                lasting=lasting,
                rollouts=rollouts,
                reason=reason,
                under_way=under_way,
                actor=name_of(os.getuid()),
                dry_run=dry_run,
            )
        )

    def end_freeze(self, name: str, *, reason: str = "", dry_run: bool = False) -> FreezeView:
        """End a freeze that a person began."""
        ending = self._flow.end_freeze(name, reason=reason, actor=name_of(os.getuid()), dry_run=dry_run)
        return self._runner.run(ending)

    def override_freeze(self, name: str, *, reason: str, dry_run: bool = False) -> OverrideView:
        """Let the release of a rollout that waits begin in spite of every freeze."""
        actor = name_of(os.getuid())
        return self._runner.run(
            self._flow.override_waiting(name, reason=reason, actor=actor, dry_run=dry_run)
        )

    def start(
        self,
        name: str,
        images: Mapping[str, str],
        *,
        reason: str = "",
        dry_run: bool = False,
        even_if_unattainable: bool = False,
        override_freeze: bool = False,
    ) -> Change:
        """`images` by container; `""` is the only container there is."""
        return self._runner.run(
            starting.start(
                self._there,
                name,
                images,
                reason=reason,
                dry_run=dry_run,
                even_if_unattainable=even_if_unattainable,
                override_freeze=override_freeze,
            )
        )

    def undo(
        self, name: str, *, to_revision: int | None = None, reason: str = "", dry_run: bool = False
    ) -> Change:
        """`to_revision`: as `kubectl rollout history` counts."""
        return self._runner.run(
            starting.go_back(self._there, name, to_revision=to_revision, reason=reason, dry_run=dry_run)
        )

    def say(
        self,
        name: str,
        kind: CommandKind,
        *,
        reason: str = "",
        step: int | None = None,
        dry_run: bool = False,
    ) -> str:
        """Say a word and wait a moment; what to tell where it is not obeyed by then, else nothing."""
        return self._runner.run(
            person.say(self._there, name, kind, reason=reason, step=step, dry_run=dry_run)
        )

    def abort(self, name: str, *, reason: str = "", dry_run: bool = False) -> AbortedInCluster:
        return self._runner.run(person.abort(self._there, name, reason=reason, dry_run=dry_run))

"""Freezes with a record of each word of a person about them: what is asked, and what came of it."""

from __future__ import annotations

from datetime import datetime, timedelta

from phoenix_orch.orchestrator.flow import Flow
from phoenix_orch.orchestrator.flow_views import FreezeView, OverrideView
from phoenix_orch.rollout.freezes import UnderWay
from phoenix_orch.security.recorder import Recorder


class AuditedFlow(Flow):
    """As the flow it is made from, for whoever asks from outside. A dry run leaves no record."""

    def __init__(self, flow: Flow, recorder: Recorder) -> None:
        super().__init__(flow._book, flow._declared, flow._records, flow._clock)  # noqa: SLF001 - its like
        self._recorder = recorder

    async def start_freeze(
        self,
        name: str | None,
        *,
        until: datetime | None,
        lasting: timedelta | None,
        rollouts: tuple[str, ...],
        reason: str,
        under_way: UnderWay,
        actor: str,
        dry_run: bool,
    ) -> FreezeView:
        async def start() -> FreezeView:
            return await super(AuditedFlow, self).start_freeze(
                name,
                until=until,
                lasting=lasting,
                rollouts=rollouts,
                reason=reason,
                under_way=under_way,
                actor=actor,
                dry_run=dry_run,
            )

        if dry_run:
            return await start()
        wanted = {"until": until, "lasting": lasting, "rollouts": rollouts, "releasesUnderWay": under_way}
        asked = self._recorder.acting(
            "freeze.start",
            f"freeze/{name or ''}",
            actor=actor,
            reason=reason,
            after={key: str(value) for key, value in wanted.items() if value},
        )
        async with asked as act:
            act.after = view = await start()
        return view

    async def end_freeze(self, name: str, *, reason: str, actor: str, dry_run: bool) -> FreezeView:
        if dry_run:
            return await super().end_freeze(name, reason=reason, actor=actor, dry_run=True)
        asked = self._recorder.acting("freeze.end", f"freeze/{name}", actor=actor, reason=reason)
        async with asked as act:
            act.after = view = await super().end_freeze(name, reason=reason, actor=actor, dry_run=False)
        return view

    async def override_waiting(self, name: str, *, reason: str, actor: str, dry_run: bool) -> OverrideView:
        if dry_run:
            return await super().override_waiting(name, reason=reason, actor=actor, dry_run=True)
        asked = self._recorder.acting("freeze.override", f"rollout/{name}", actor=actor, reason=reason)
        async with asked as act:
            act.after = view = await super().override_waiting(name, reason=reason, actor=actor, dry_run=False)
        return view

"""The port of tasks where some destroy: whoever runs one of these by hand needs a second person.

Which do, the configuration says (`secondPerson`). What a schedule runs was agreed to where it was written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection

from phoenix_orch.kernel.errors import Forbidden
from phoenix_orch.orchestrator.approving import Approving
from phoenix_orch.security.acting import current
from phoenix_orch.tasks.passed_on import ReadsPassedOn
from phoenix_orch.tasks.port import RunRequest, ScheduleView, Tasks
from phoenix_orch.tasks.record import TaskRecord


class SecondedTasks(ReadsPassedOn):
    """Implements `Tasks` on another one."""

    def __init__(self, tasks: Tasks, approving: Approving, destroying: Callable[[], Collection[str]]) -> None:
        """`destroying`: kinds that take two persons now."""
        super().__init__(tasks)
        self._approving = approving
        self._destroying = destroying

    # -- what takes two persons, of some kinds --------------------------------------------------------

    async def run(self, request: RunRequest, *, actor: str, dry_run: bool = False) -> TaskRecord:
        """Raises NeedsSecond."""
        if not dry_run and request.kind in self._destroying():
            await self._tasks.run(request, actor=actor, dry_run=True)  # what cannot be is asked of nobody
            await self._second("task.run", asked_for(request), request.reason)
        return await self._tasks.run(request, actor=actor, dry_run=dry_run)

    async def retry(self, id: str, *, actor: str) -> TaskRecord:  # noqa: A002 - the field's word
        """Raises NeedsSecond: what was agreed to was one run."""
        if (await self._tasks.show(id)).kind in self._destroying():
            await self._second("task.retry", f"task/{id}", "")
        return await self._tasks.retry(id, actor=actor)

    async def run_schedule(self, name: str, *, actor: str) -> TaskRecord:
        """Raises NeedsSecond: it runs at another time than was written down."""
        if (await self._tasks.schedule(name)).kind in self._destroying():
            await self._second("schedule.run", f"schedule/{name}", "")
        return await self._tasks.run_schedule(name, actor=actor)

    async def _second(self, action: str, target: str, reason: str) -> None:
        caller = current.get()
        if caller is None:
            raise Forbidden(f"nobody asks for {action} of {target}", remedy="ask for it through the API")
        await self._approving.second_person(action, target, by=caller.principal, reason=reason)

    # -- all else ---------------------------------------------------------------------------------------

    async def cancel(self, id: str, *, actor: str) -> TaskRecord:  # noqa: A002
        return await self._tasks.cancel(id, actor=actor)

    async def pause(self, name: str, *, actor: str) -> ScheduleView:
        return await self._tasks.pause(name, actor=actor)

    async def resume(self, name: str, *, actor: str) -> ScheduleView:
        return await self._tasks.resume(name, actor=actor)


def asked_for(request: RunRequest) -> str:
    """Kind and target, with a digest of whatever else the request has but its reason. Pure."""
    rest = request.model_dump(mode="json", include={"arguments", "key", "after"})
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:12]
    target = f"/{request.target}" if request.target else ""
    return f"task/{request.kind}{target} ({digest})"

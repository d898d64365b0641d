"""What is left of a Rollout that was deleted: traffic first, then what Phoenix made, then its marks.

There is no finalizer: a Rollout can always be deleted, also with Phoenix gone. A canary Ingress that Phoenix
made goes with it then, by the cluster's garbage collection; what else is left is found by `forsaken.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import structlog

from phoenix_orch.kernel.errors import NotFound, PhoenixError
from phoenix_orch.orchestrator.cluster.declared import Declared
from phoenix_orch.runtime.faults import Faults

SETTLED = 10.0
"""Seconds until routers have surely taken up that the canary gets nothing."""


class Router(Protocol):
    async def release(self, route: str) -> None:
        """Stop steering: all traffic to stable."""
        ...


class Workload(Protocol):
    async def leave(self, service: str) -> None:
        """Take away what Phoenix made and marked."""
        ...


@dataclass(slots=True)
class _Gone:
    one: Declared
    released_at: float | None = None


class Leaving:
    """Remembers the Rollouts there were, and parts with those that are there no more."""

    def __init__(self, router: Router, workload: Workload, *, clock: Callable[[], float]) -> None:
        """`clock`: seconds that never go back."""
        self._router = router
        self._workload = workload
        self._clock = clock
        self._known: dict[str, Declared] = {}
        self._gone: dict[str, _Gone] = {}
        self._log = structlog.get_logger("phoenix.rollouts")
        self._faults = Faults(self._log)

    async def look(self, there: Iterable[Declared], uids: frozenset[str]) -> None:
        """`there`: those that can be read; `uids`: of all, since what cannot be read is not gone."""
        present = list(there)
        for uid in self._known.keys() - uids:
            self._gone[uid] = _Gone(self._known.pop(uid))
        self._known |= {one.uid: one for one in present}
        if not self._gone:
            return
        taken = {name for one in present for name in (one.rollout.route, one.rollout.service)}
        for uid, gone in list(self._gone.items()):
            if {gone.one.rollout.route, gone.one.rollout.service} & taken or await self._part(gone):
                del self._gone[uid]

    async def _part(self, gone: _Gone) -> bool:
        """The next step; True when nothing is left to do."""
        name, rollout = gone.one.name, gone.one.rollout
        try:
            if gone.released_at is None:
                await self._router.release(rollout.route)
                gone.released_at = self._clock()
                self._log.info("the Rollout was deleted; stable has all traffic", rollout=name)
                return False
            if self._clock() - gone.released_at < SETTLED:
                return False
            await self._workload.leave(rollout.service)
        except NotFound:  # the Deployment went, too
            return True
        except PhoenixError as error:
            self._faults.tell(name, "leaving", error=error)
            return False
        self._faults.mended(name, "leaving")
        return True

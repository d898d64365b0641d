"""What is left of a Rollout that was deleted: traffic first, then what Phoenix made, then its marks.

What carried the weight of one that names something else now is given back, too. There is no finalizer: a
Rollout can always be deleted, also with Phoenix gone. A canary Ingress that Phoenix made goes with it then,
by the cluster's garbage collection; what else is left is found by `forsaken.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import structlog

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.orchestrator.cluster.declared import Carrier, Declared
from phoenix_orch.runtime.faults import Faults

SETTLED = 10.0
"""Seconds until routers have surely taken up that the canary gets nothing."""


class Router(Protocol):
    async def release(self, carrier: Carrier) -> None:
        """Stop steering what no Rollout names any more: all its traffic to stable. Idempotent."""
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
        self._there: Iterable[Declared] = ()
        self._left: dict[Carrier, str] = {}
        """What a Rollout named and may not be given back yet, and whose it was."""
        self._log = structlog.get_logger("phoenix.rollouts")
        self._faults = Faults(self._log)

    async def look(self, there: Iterable[Declared], uids: frozenset[str]) -> None:
        """`there`: those that can be read; `uids`: of all, since what cannot be read is not gone.

        Never raises: what fails keeps nothing else waiting, and is tried again.
        """
        for uid in self._known.keys() - uids:
            gone = self._known.pop(uid)
            self._gone[uid] = _Gone(gone)
            self._left |= dict.fromkeys(gone.carriers(), gone.name)
        if there is not self._there:  # of the very same list everything is known
            self._there = there
            for one in there:
                before = self._known.get(one.uid, one)
                if before is not one:
                    self._left |= dict.fromkeys(before.carriers() - one.carriers(), one.name)
                self._known[one.uid] = one
        if self._left:
            await self._give_back()
        for uid, former in list(self._gone.items()):
            if self._followed(former.one) or await self._faults.guard(
                self._part(former), former.one.name, "leaving"
            ):
                del self._gone[uid]

    async def _give_back(self) -> None:
        named = {carrier for one in self._known.values() for carrier in one.carriers()}
        for carrier, name in list(self._left.items()):
            if carrier in named or await self._faults.guard(
                self._release(carrier, name), name, "leaving", carrier.name
            ):
                del self._left[carrier]

    async def _release(self, carrier: Carrier, name: str) -> bool:
        await self._router.release(carrier)
        told = "no Rollout names it any more; stable has all its traffic"
        self._log.info(told, rollout=name, kind=carrier.kind, name=carrier.name)
        return True

    def _followed(self, gone: Declared) -> bool:
        """Another Rollout has its Deployment, or its canary behind its route."""
        return any(
            one.rollout.service == gone.rollout.service or one.carriers() & gone.carriers()
            for one in self._known.values()
        )

    async def _part(self, gone: _Gone) -> bool:
        """The next step; True when nothing is left to do."""
        if gone.one.carriers() & self._left.keys():
            return False
        if gone.released_at is None:
            gone.released_at = self._clock()
        if self._clock() - gone.released_at < SETTLED:
            return False
        with contextlib.suppress(NotFound):  # the Deployment went, too
            await self._workload.leave(gone.one.rollout.service)
        return True

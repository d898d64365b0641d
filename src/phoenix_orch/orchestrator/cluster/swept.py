"""The log of a Rollout that was deleted goes with it: nobody reads it again, a namesake begins its own."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import structlog

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.runtime.faults import Faults


class Log(Protocol):
    async def sweep(self, uids: Collection[str]) -> tuple[str, ...]:
        """Remove what belongs to no Rollout of these; gives the names. Raises PhoenixError."""
        ...


class Swept:
    """`look` in every pass: sweeps once in a term of office, for what went while nobody led, and whenever a
    Rollout went since."""

    def __init__(self, log: Log) -> None:
        self._log_of_rollouts = log
        self._known: frozenset[str] = frozenset()
        self._due = True
        self._log = structlog.get_logger("phoenix.rollouts")
        self._faults = Faults(self._log)

    async def look(self, uids: frozenset[str]) -> None:
        """`uids`: of all Rollouts, readable or not. What fails is tried again in the next pass."""
        self._due = self._due or not self._known <= uids
        self._known = uids
        if not self._due:
            return
        try:
            gone = await self._log_of_rollouts.sweep(uids)
        except PhoenixError as error:
            self._faults.tell("log", error=error)
            return
        self._faults.mended("log")
        self._due = False
        if gone:
            self._log.info("the log of Rollouts that were deleted is removed", rollouts=list(gone))

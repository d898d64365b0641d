"""Says in a Rollout's status what keeps it from going on until somebody changes something.

It is the condition `Stalled`, as `kubectl wait` and other tools know it from
https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md. What passes by itself (a
conflict, an API server that is away) is no such thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import Invalid, NotFound, PhoenixError
from phoenix_orch.orchestrator.cluster.declared import Declared
from phoenix_orch.rollout.conditions import STALLED, Condition, stalled
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.workload.deployment.refusal import Refused

LASTS = timedelta(seconds=2)
"""What is over sooner is not told: endpoints and watches are a moment behind."""


class Told(Protocol):
    async def tell(self, name: str, condition: Condition) -> None:
        """Put a condition into the status of a rollout."""
        ...


class Stalls:
    """Of all Rollouts of one orchestrator."""

    def __init__(
        self, store: Told, faults: Callable[[str], Mapping[str, Exception]], *, clock: Clock
    ) -> None:
        """`faults`: what keeps the rollout controller from acting on a rollout, by what it tries."""
        self._store = store
        self._of_controller = faults
        self._clock = clock
        self._since: dict[str, datetime] = {}
        self._faults = Faults(structlog.get_logger("phoenix.rollouts"))

    async def tell(self, one: Declared, hindered: PhoenixError | None) -> None:
        """Bring the condition up to date. `hindered`: what was in the way of following the Rollout."""
        now = self._clock.now()
        found = hindrance(hindered, *self._of_controller(one.name).values())
        if found is None:
            self._since.pop(one.name, None)
        elif now - self._since.setdefault(one.name, now) < LASTS:
            return
        before = next((known for known in one.conditions if known.type == STALLED), None)
        reason, message = (reason_of(found), str(found)) if found is not None else ("", "")
        wanted = stalled(reason, message, now, before, generation=one.generation)
        if wanted is None:
            return
        try:
            await self._store.tell(one.name, wanted)
        except PhoenixError as error:  # it is told with the next look
            self._faults.tell(one.name, "stalled", error=error)
        else:
            self._faults.mended(one.name, "stalled")


def hindrance(*errors: Exception | None) -> Invalid | None:
    """The first that does not pass by itself. Pure."""
    return next((error for error in errors if isinstance(error, Invalid)), None)


def reason_of(error: Invalid) -> str:
    """One CamelCase word. Pure."""
    if isinstance(error, Refused):
        return error.reason
    return "NotFound" if isinstance(error, NotFound) else "Refused"

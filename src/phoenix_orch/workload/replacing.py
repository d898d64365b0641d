"""Whether an instance that fails its health path may be replaced now, seen across all services.

A process that hangs is helped by a new one. When many fail at once they have something in common that no
new process mends: the machine is short of something, or Phoenix itself is late. Ending what still works
then, and starting as many programs anew, makes it worse.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

AT_ONCE = 3
"""Replacements that may begin within `WINDOW`, of all services together."""
WINDOW = 30.0
"""Seconds in which a replacement comes to serve, or shows that it does not."""
MANY_SERVICES, MANY_SHARE = 3, 0.25
"""So many services, and such a share of all, that fail at once have a common cause."""
_NAMED = 5

_log = structlog.get_logger("phoenix.workload")


@dataclass(frozen=True, slots=True)
class Standing:
    """How the instances of one service do that have been ready and are meant to serve."""

    serving: int
    failing: int
    """Those that are not ready any more."""

    @property
    def fails(self) -> bool:
        """Most of them do."""
        return self.failing > self.serving


def common_cause(standings: Mapping[str, Standing]) -> tuple[str, ...]:
    """The services that fail, sorted, if they are too many for faults of their own; else none. Pure."""
    failing = sorted(service for service, standing in standings.items() if standing.fails)
    known = sum(standing.serving + standing.failing > 0 for standing in standings.values())
    return tuple(failing) if len(failing) >= max(MANY_SERVICES, MANY_SHARE * known) else ()


class Replacements:
    """Lets few begin at once: one of a service, `AT_ONCE` of all, none while many services fail."""

    def __init__(self, standings: Callable[[], Mapping[str, Standing]]) -> None:
        """`standings`: how every service does now."""
        self._standings = standings
        self._begun: deque[float] = deque()
        self._next: dict[str, float] = {}
        self._told = False

    def may_begin(self, service: str, now: float, pause: float) -> bool:
        """Whether one of `service` begins now; then no other one of it does for `pause` seconds.

        `now`: seconds of a clock that only goes forward.
        """
        while self._begun and self._begun[0] <= now - WINDOW:
            self._begun.popleft()
        if self._have_a_common_cause() or now < self._next.get(service, now) or len(self._begun) >= AT_ONCE:
            return False
        self._begun.append(now)
        self._next = {name: moment for name, moment in self._next.items() if moment > now}
        self._next[service] = now + pause
        return True

    def _have_a_common_cause(self) -> bool:
        failing = common_cause(self._standings())
        if failing and not self._told:
            names = ", ".join(failing[:_NAMED]) + (" …" if len(failing) > _NAMED else "")
            _log.error(
                f"{len(failing)} services fail their health paths at once ({names}): nothing is replaced",
                remedy="look at what they share: the load of the machine, its memory and disk, a database",
            )
        self._told = bool(failing)
        return bool(failing)

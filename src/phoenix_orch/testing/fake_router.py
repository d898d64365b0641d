"""A TrafficRouter in memory, under the same rules as the real ones, with faults on demand."""

from __future__ import annotations

import re
from collections import defaultdict, deque

from phoenix_orch.kernel.errors import Invalid, NotFound, PhoenixError
from phoenix_orch.traffic import rules
from phoenix_orch.traffic.router import TrafficSeen, TrafficState

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class FakeRouter:
    """Passes `router_contract`. Everything takes effect at once unless a test says otherwise.

    `history` lists every state ever stored, in order: what a test looks at to see that an aborted
    revision never got weight.
    """

    def __init__(self) -> None:
        self.history: list[TrafficState] = []
        self._objects: dict[str, TrafficState] = {}
        self._in_force: dict[str, TrafficState] = {}
        self._faults: defaultdict[str, deque[PhoenixError]] = defaultdict(deque)
        self._frozen = False
        self._blind = False

    # What tests do to it.

    def fail_next(self, method: str, error: PhoenixError, times: int = 1) -> None:
        """The next calls of `method` (read, write, abort, clear_latch) raise `error` and change nothing.

        `fail_next("write", Conflict("..."))` is a writer that was quicker; `Unavailable` a router away.
        """
        self._faults[method].extend([error] * times)

    def freeze(self) -> None:
        """The data plane goes on with what it has, whatever is written."""
        self._frozen = True

    def thaw(self) -> None:
        """The data plane takes up what is written."""
        self._frozen = False
        self._in_force.update(self._objects)

    def blind(self, value: bool = True) -> None:
        """The data plane does not answer: `observe` gives weight None."""
        self._blind = value

    def meddle(self, state: TrafficState) -> None:
        """Somebody changes the object by hand, past all rules and versions; read reports the drift."""
        self._objects[state.route] = state.model_copy(update={"drifted": True})
        self._spread(state.route)

    def delete(self, route: str) -> None:
        """The route is gone."""
        self._objects.pop(route, None)
        self._in_force.pop(route, None)

    # What everybody does with it.

    async def read(self, route: str) -> TrafficState:
        self._fault("read")
        return self._get(route)

    async def write(self, wanted: TrafficState) -> TrafficState:
        self._fault("write")
        _check_name(wanted.route)
        return self._put(rules.written(self._objects.get(wanted.route), wanted))

    async def abort(self, route: str, revision: str) -> TrafficState:
        self._fault("abort")
        return self._put(rules.aborted(self._get(route), revision))

    async def clear_latch(self, route: str, revision: str) -> TrafficState:
        self._fault("clear_latch")
        return self._put(rules.cleared(self._get(route), revision))

    async def observe(self, route: str) -> TrafficSeen:
        state = self._in_force.get(route)
        if self._blind or state is None:
            return TrafficSeen(weight=None)
        canary = state.canary if state.canary and state.canary.backends else None
        groups = (state.stable, canary)
        return TrafficSeen(
            weight=rules.share(state),
            canary_revision=canary.revision if canary else None,
            stable_revision=state.stable.revision,
            backends=frozenset(backend.url for group in groups if group for backend in group.backends),
        )

    def _fault(self, method: str) -> None:
        if self._faults[method]:
            raise self._faults[method].popleft()

    def _get(self, route: str) -> TrafficState:
        _check_name(route)
        if route not in self._objects:
            raise NotFound(f"there is no route {route!r}", remedy="write it with version 0 first")
        return self._objects[route]

    def _put(self, state: TrafficState) -> TrafficState:
        stored = state.model_copy(update={"drifted": False})
        if stored != self._objects.get(state.route):
            self._objects[state.route] = stored
            self.history.append(stored)
            self._spread(state.route)
        return stored

    def _spread(self, route: str) -> None:
        if not self._frozen:
            self._in_force[route] = self._objects[route]


def _check_name(route: str) -> None:
    if not _NAME.fullmatch(route):
        raise Invalid(f"{route!r} is not the name of a route", remedy="use a DNS label")

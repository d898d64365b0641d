"""The port to whatever splits the traffic.

Two kinds of truth, never mixed: `TrafficState` is what the traffic object *says* (the configured
weight, the latch, its version); `TrafficSeen` is what the data plane was *seen* to do.

Every write is conditional on the version that was read. A write on an old version raises Conflict
and changes nothing. No write other than `clear_latch` makes an aborted revision carry traffic again;
one that tries raises Latched (rule R4).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

_VALUE = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True)
"""camelCase for users of the API, the names below for everything that is stored."""


class Backend(BaseModel):
    """One address that serves a variant."""

    model_config = _VALUE

    instance: str
    url: str
    """Base address, for example `http://127.0.0.1:20001`."""


class Group(BaseModel):
    """The backends of one revision, ready to serve."""

    model_config = _VALUE

    revision: str
    backends: tuple[Backend, ...] = ()


class TrafficState(BaseModel):
    """What the traffic object of one route says."""

    model_config = _VALUE

    route: str
    version: int = 0
    """Rises by one with every write; the condition of the next write."""
    stable: Group
    canary: Group | None = None
    previous: Group | None = None
    """The stable group before a promotion, kept warm while the new one bakes."""
    weight: int = 0
    """Share of the canary in per cent, 0..100."""
    aborted: tuple[str, ...] = ()
    """Revisions that may not carry traffic: the latch. The newest last. None is forgotten by itself, also
    not when its revision is no longer kept."""
    drifted: bool = False
    """Set by `read` when something else changed what the data plane obeys. Writing the state puts it
    back. Never stored."""


class TrafficSeen(BaseModel):
    """What the data plane does."""

    model_config = _VALUE

    weight: int | None
    """The canary's share in force in per cent; None when the router does not answer."""
    canary_revision: str | None = None
    stable_revision: str | None = None
    backends: frozenset[str] | None = None
    """Addresses that the data plane may still send requests to, of both variants; None: not known. An
    instance may be ended once its address is missing here."""

    def share(self, revision: str) -> int | None:
        """What a revision gets of the requests in per cent, as canary and as stable; None: not known."""
        if self.weight is None:
            return None
        as_canary = self.weight if self.canary_revision == revision else 0
        return as_canary + (100 - self.weight if self.stable_revision == revision else 0)


class MetricsPage(NamedTuple):
    """Where a router tells what it counts of the variants of a route."""

    url: str
    pid: int | None = None
    """Of the process that counts; None: not known."""


class TrafficRouter(Protocol):
    """Read and steer the traffic of one route at a time. Implementations are safe to call from
    several processes at once."""

    async def read(self, route: str) -> TrafficState:
        """The traffic object as it stands. Raises NotFound, or Retryable when it cannot be read."""
        ...

    async def write(self, wanted: TrafficState) -> TrafficState:
        """Replace the object if its version is still `wanted.version`; gives it back with the new version.

        Version 0 creates a route that does not exist yet. What is latched stays latched even when
        `wanted.aborted` leaves it out; revisions that `wanted.aborted` adds are latched.

        Raises Conflict (somebody wrote in between), Latched (an aborted revision would carry traffic),
        Invalid (stable without backends, canary weight without canary).
        """
        ...

    async def abort(self, route: str, revision: str) -> TrafficState:
        """Latch `revision` and take all its traffic away in one write, retrying conflicts itself.

        When `revision` is the canary its weight becomes 0. When it is the stable group and a previous
        group is kept that can serve, the two change places; without one, stable goes on serving (R5).
        Idempotent. Needs nothing but the traffic object (R2).
        """
        ...

    async def clear_latch(self, route: str, revision: str) -> TrafficState:
        """Let `revision` carry traffic again: at a person's retry, or when there are thousands.

        Idempotent."""
        ...

    async def observe(self, route: str) -> TrafficSeen:
        """What the data plane sends now. Never raises for an unreachable router: weight is None then."""
        ...

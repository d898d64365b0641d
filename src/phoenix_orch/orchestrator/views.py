"""What the API gives and the command line shows: pictures put together for people and programs.

Field names in JSON are camelCase and stable; new fields may be added, none is renamed or removed
within `v1`.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from phoenix_orch.health_validator.observation import Verdict
from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec import Model, Step
from phoenix_orch.rollout.status import Event, Rollout
from phoenix_orch.traffic.router import TrafficSeen, TrafficState
from phoenix_orch.workload.workload import WorkloadState


class Rates(Model):
    """One variant over the evidence window."""

    requests_per_second: float = 0.0
    error_rate: float | None = None
    """Share 0..1; None without requests."""
    p95: float | None = None
    """Seconds, interpolated inside its bucket."""
    p99: float | None = None
    requests: int = 0
    """Requests since the release began."""
    errors: int = 0
    abandoned: int = 0
    """Requests since the release began that clients gave up on; `requests` are without them."""


class Fault(Model):
    """Something that keeps Phoenix from acting on a rollout now; it goes on trying."""

    at: str
    """What it tries: `abort`, `steering`, `latch`, `store`, …"""
    message: str
    remedy: str = ""


class RolloutView(Model):
    """One rollout with everything around it, as of `at`. None: could not be read just now."""

    at: datetime
    rollout: Rollout
    steps: tuple[Step, ...]
    versions: dict[str, str] = Field(default_factory=dict)
    """Version label of each revision that appears in the rollout."""
    traffic: TrafficState | None = None
    seen: TrafficSeen | None = None
    workload: WorkloadState | None = None
    verdict: Verdict | None = None
    canary: Rates = Rates()
    stable: Rates = Rates()
    time_left: Duration | None = None
    """Until the rollout rests if nothing goes wrong; None while nothing is on its way or it is paused."""
    speed: float = 1.0
    """How many seconds of rollout time pass in one real second."""
    faults: tuple[Fault, ...] = ()


class RolloutEvent(Event):
    """One thing that happened, and to which rollout."""

    rollout: str


class ServiceView(Model):
    """One service: what is declared and what runs."""

    name: str
    version: str
    revision: str
    replicas: int
    ready: int
    route: str = ""
    """Address that users call, if a route leads to the service."""
    rollout: str = ""
    workload: WorkloadState | None = None


class ChangeKind(StrEnum):
    CREATE = "create"
    RELEASE = "release"  # a new revision starts its way
    CONFIGURE = "configure"  # what is wanted changes without a new revision
    REMOVE = "remove"
    NONE = "none"


class Change(Model):
    """One thing that an apply, start or undo does; with `--dry-run`, would do."""

    kind: ChangeKind
    target: str
    """`rollout/web`, `task/report`, `schedule/report`, `freeze/xmas`, `group/shop`, `backup`, `identity`,
    `api`, `router`, `audit`, `status-page`."""
    detail: str
    revision: str = ""
    version: str = ""


class LogLine(Model):
    instance: str
    text: str


class LogPage(Model):
    lines: tuple[LogLine, ...]
    offsets: dict[str, int]
    """Give these back as `after` to get only what is new."""


class GrantView(Model):
    """A role in a namespace; `*` is all of them."""

    role: str
    namespace: str


class Identity(Model):
    """Somebody who is known to the API."""

    name: str
    kind: str
    """How they are known: a user of this machine, a token, a login, …"""
    grants: tuple[GrantView, ...]
    address: str
    """Where they call from."""


def of_rollout(event: Event, rollout: str) -> RolloutEvent:
    """An event with the name of what it happened to."""
    return RolloutEvent.model_construct(**dict(event), rollout=rollout)

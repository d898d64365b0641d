"""The port to what runs the revisions, and the picture of it that decisions are made from."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from phoenix_orch.kernel.told import Told
from phoenix_orch.workload.spec import ServiceSpec, Template

_VALUE = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True)
"""camelCase for users of the API, the names below for everything that is stored."""


class InstanceState(StrEnum):
    STARTING = "starting"  # runs, has not been ready yet
    READY = "ready"
    UNREADY = "unready"  # was ready, fails its health path now
    BACKOFF = "backoff"  # exited; waits for the next start
    DRAINING = "draining"  # out of the router, finishing


class Instance(BaseModel):
    """One process. `started` and `pid` together name it beyond doubt, also after pids wrap."""

    model_config = _VALUE

    name: str
    """`<service>-<revision>-<n>`."""
    revision: str
    state: InstanceState
    pid: int | None = None
    started: float | None = None
    """Start of the process in seconds since 1970, as the kernel tells it."""
    port: int
    ready_since: datetime | None = None
    metrics_path: str | None = None
    log: str = ""
    """Path of its log file."""


class Exit(BaseModel):
    """One unexpected end of an instance."""

    model_config = _VALUE

    instance: str
    revision: str
    at: datetime
    code: int | None = None
    """Exit status; negative: the signal; None: unknown, the process was adopted."""
    reason: str = "exited"
    """exited, killed (SIGKILL from elsewhere), oom (above its memory limit, or the kernel's), unhealthy and
    never-ready (Phoenix ended it to start it anew), cannot-start."""
    detail: Told = ""
    """What Phoenix found before it ended the instance, or why it cannot be started."""

    @property
    def text(self) -> str:
        """How it ended, in words: everywhere the same. A signal that Phoenix sent is no news."""
        match self.reason:
            case "oom":
                return "out of memory"
            case "cannot-start":
                return f"cannot start: {self.detail}"
            case "unhealthy" | "never-ready":
                return f"ended by Phoenix: {self.detail or self.reason}"
        if self.code is None:
            return "ended unseen"
        return f"exit status {self.code}" if self.code >= 0 else _signal_text(-self.code)


def _signal_text(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


class WorkloadState(BaseModel):
    """All instances of one service. Published atomically at every change, readable by other processes."""

    model_config = _VALUE

    service: str
    at: datetime
    wanted: dict[str, int] = {}
    """Instances wanted of each revision."""
    instances: tuple[Instance, ...] = ()
    exits: tuple[Exit, ...] = ()
    """Unexpected exits of the last hour, oldest first, at most 100 of each revision."""

    def of(self, revision: str) -> tuple[Instance, ...]:
        return tuple(instance for instance in self.instances if instance.revision == revision)

    def ready(self, revision: str) -> tuple[Instance, ...]:
        return tuple(i for i in self.of(revision) if i.state is InstanceState.READY)


class WorkloadView(Protocol):
    """Reading only: enough for validators and rollback controllers in processes of their own."""

    async def state(self, service: str) -> WorkloadState:
        """The present picture. Raises NotFound for a service nobody has declared."""
        ...


SpecT_contra = TypeVar("SpecT_contra", contravariant=True)
TemplateT = TypeVar("TemplateT")


class Running(WorkloadView, Protocol[SpecT_contra, TemplateT]):
    """Run instances of revisions. Calls state what is wanted and return at once; `state` tells what is.

    What a service is declared by and what a revision is made of differ from platform to platform.
    """

    async def declare(self, service: str, spec: SpecT_contra) -> None:
        """Make the service known, with its drain time and health rules. Idempotent."""
        ...

    async def templates(self, service: str) -> Mapping[str, TemplateT]:
        """Templates of the revisions that are wanted or have instances. Raises NotFound as `state`."""
        ...

    async def scale(self, service: str, template: TemplateT, count: int) -> None:
        """Want `count` instances of `template`'s revision. 0 drains and ends them. Idempotent.

        An instance leaves only after `release` confirmed that the router no longer sends to it.
        """
        ...

    async def release(self, service: str, routed: frozenset[str]) -> None:
        """Tell which instances the router may still send to; those draining and not named are ended."""
        ...

    async def restart(self, service: str) -> None:
        """Replace all instances one after another, each ready before the next one leaves."""
        ...


class Workload(Running[ServiceSpec, Template], Protocol):
    """Revisions as processes of this machine."""

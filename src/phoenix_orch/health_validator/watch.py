"""One rollout while it is watched: what its next observation builds on, and what is wrong now."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict

from phoenix_orch.health_validator.judge import JudgeConfig, JudgeState
from phoenix_orch.health_validator.observation import Observation, Verdict
from phoenix_orch.health_validator.sources.source import SourceMemory
from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import Rollout

PATIENCE = 5.0
"""Real seconds for one call to the store, the router or the workload."""

UNLOGGED = 1000
"""Observations kept while the store is away; the oldest go first."""

_log = structlog.get_logger(__name__)
T = TypeVar("T")


class Memory(BaseModel):
    """What is stored beside a verdict: all that the next observation of this release needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    release: int
    at: datetime | None = None
    """End of the last observation."""
    source: SourceMemory = SourceMemory()
    judge: JudgeState


@dataclass
class Watch:
    """One rollout while it is watched."""

    rollout: Rollout
    config: tuple[RolloutSpec, JudgeConfig] | None = None
    """Made for this spec."""
    memory: Memory | None = None
    loaded: bool = False
    verdict: Verdict | None = None
    begun: datetime | None = None
    """When it was looked at first."""
    answered: bool = False
    """The source has said something since."""
    unshown: Verdict | None = None
    unpublished: tuple[Verdict, str] | None = None
    clock_back: bool = False
    """What was published last is from a future that the clock no longer knows."""
    convicted: Verdict | None = None
    """A rollback that was shown and of which the judge's state that could be read says nothing."""
    unlogged: deque[Observation] = field(default_factory=lambda: deque(maxlen=UNLOGGED))
    faults: dict[str, str] = field(default_factory=dict)
    """What is wrong now, by kind; each is told once."""

    def drop(self) -> None:
        """Forget what was not published: the rollout is gone, or another validator was quicker."""
        self.unlogged.clear()
        self.unshown = self.unpublished = None

    def trouble(self, kind: str, reason: str, *, exc_info: bool = False) -> None:
        """Observing is hindered by `kind`: log it unless it was before."""
        if kind not in self.faults:
            _log.warning(
                "observing is hindered",
                rollout=self.rollout.name,
                by=kind,
                reason=reason,
                exc_info=exc_info,
            )
        self.faults[kind] = reason

    def mended(self, kind: str) -> None:
        """It is so no longer."""
        if self.faults.pop(kind, None) is not None:
            _log.info("observing goes on", rollout=self.rollout.name, after=kind)


async def within(seconds: float, call: Awaitable[T]) -> T:
    """The call's answer, or Retryable after so many real seconds."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise Retryable(f"no answer within {seconds:g} s") from None

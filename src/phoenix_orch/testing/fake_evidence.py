"""Evidence as a test wants it."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from phoenix_orch.health_validator.observation import Arm, Observation, Quality
from phoenix_orch.health_validator.sources.source import Context, Reading, SourceMemory


class FakeEvidence:
    """An EvidenceSource that gives every revision the same interval again and again.

    `serve` says what a revision does in each interval; one that was never named is a gap. `raise_next`
    and `hang` are faults that a real source does not have but a caller has to survive.
    """

    def __init__(self) -> None:
        self.asked: list[Context] = []
        self._arms: dict[str, Arm] = {}
        self._error: Exception | None = None
        self._may_answer = asyncio.Event()
        self._may_answer.set()

    def serve(self, revision: str, requests: int, errors: int = 0, *, slow: int = 0, **more: Any) -> None:
        """In each interval: so many requests, `errors` of them failed, `slow` took 150 to 300 ms and the
        others less than 50 ms. `more`: further fields of Arm."""
        buckets = ((0.05, requests - slow), (0.1, 0), (0.15, 0), (0.3, slow), (math.inf, 0))
        self._arms[revision] = Arm(
            revision=revision, requests=requests, errors=errors, buckets=buckets, processes=1, **more
        )

    def silence(self, revision: str) -> None:
        """No answer about this revision from now on."""
        self._arms.pop(revision, None)

    def raise_next(self, error: Exception) -> None:
        self._error = error

    def hang(self) -> None:
        """Do not answer until `wake`."""
        self._may_answer.clear()

    def wake(self) -> None:
        self._may_answer.set()

    async def observe(self, context: Context, memory: SourceMemory) -> Reading:
        self.asked.append(context)
        await self._may_answer.wait()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        observation = Observation(
            t0=context.t0,
            t1=context.t1,
            revision=context.revision,
            step=context.step,
            weight_applied=context.weight,
            canary=self._arm(context.revision),
            stable=self._arm(context.stable) if context.stable is not None else None,
            notes=context.notes,
        )
        return Reading(observation, memory)

    def _arm(self, revision: str) -> Arm:
        return self._arms.get(revision, Arm(revision=revision, quality=Quality.GAP))

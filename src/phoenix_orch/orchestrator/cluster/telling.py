"""What happened to a Rollout as Events of Kubernetes, for `kubectl describe` and `kubectl get events`.

Each event of the store is told once, after it was written, and nobody waits for that: one that is lost is
lost, and the log has it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.kube.aggregation import Reference
from phoenix_orch.kube.recorder import Recorder
from phoenix_orch.kube.resources import ROLLOUTS
from phoenix_orch.orchestrator.cluster.declared import Rollouts
from phoenix_orch.rollout.status import Event

ACTION = "Release"
KEPT = 200
"""Events told last, so that one that is written again is not told again."""
_WARNINGS = frozenset(
    {
        "AbortedByHand",
        "ClockStopped",
        "CommandRefused",
        "Drift",
        "Hold",
        "Latched",
        "RolledBack",
        "RollingBack",
        "RouterLags",
        "StableChanged",
        "StableTakenBack",
        "VerificationFailed",
    }
)
"""What a person should look at."""


def kind_of(event: Event) -> Literal["Normal", "Warning"]:
    return "Warning" if event.reason in _WARNINGS else "Normal"


def note_of(event: Event) -> str:
    """For people, with who it was where that was not Phoenix."""
    return event.message if event.actor == "phoenix" else f"{event.message} ({event.actor})"


class Telling:
    """Of one process."""

    def __init__(self, recorder: Recorder, rollouts: Rollouts) -> None:
        self._recorder = recorder
        self._rollouts = rollouts
        self._told: deque[tuple[str, Event]] = deque(maxlen=KEPT)

    def __call__(self, name: str, events: Sequence[Event]) -> None:
        """Never waits and never raises."""
        about = self._reference(name)
        for event in events:
            if about is None or (about.uid, event) in self._told:
                continue
            self._told.append((about.uid, event))
            self._recorder.record(about, event.reason, note_of(event), action=ACTION, type=kind_of(event))

    def _reference(self, name: str) -> Reference | None:
        try:
            one = self._rollouts.named(name)
        except NotFound:  # it was deleted a moment ago
            return None
        return Reference(ROLLOUTS.api_version, ROLLOUTS.kind, one.namespace, one.name, one.uid)


Tell = Callable[[str, Sequence[Event]], None]


def nobody(name: str, events: Sequence[Event]) -> None:
    """Tells nothing."""


@asynccontextmanager
async def sending(recorder: Recorder) -> AsyncIterator[None]:
    """What is recorded is sent while the block runs."""
    task = asyncio.create_task(recorder.run(), name="events")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])

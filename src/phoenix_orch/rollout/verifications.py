"""Verifications under way: begun once, begun again when they break off, ended when nobody waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.rollout.status import Rollout, State
from phoenix_orch.runtime.faults import Faults

PAUSE = 1.0
"""Real seconds before a verification that broke off begins again."""

Verifier = Callable[[Rollout, str], Coroutine[Any, Any, None]]
"""Runs the verification steps of `kind` for a rollout and publishes the result in the store."""

Key = tuple[str, int, str]
"""Rollout, release, kind."""

_KIND_IN = {State.BAKING: "promotion", State.ROLLING_BACK: "rollback"}


class Verifications:
    """The tasks of one controller."""

    def __init__(self, verifier: Verifier, faults: Faults) -> None:
        self._verifier = verifier
        self._faults = faults
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    def running(self) -> frozenset[Key]:
        """Those that have not ended. Ask before looking: what ends later may not have been seen."""
        for key in [key for key, task in self._tasks.items() if task.done()]:
            del self._tasks[key]
        return frozenset(self._tasks)

    def want(self, rollout: Rollout, kind: str | None, looked: frozenset[Key]) -> None:
        """Begin what is wanted unless it ran when the controller `looked`; end what was left behind."""
        status = rollout.status
        key = (rollout.name, status.release, _KIND_IN.get(status.state, ""))
        self.end(rollout.name, but=key)
        if kind is None or key in self._tasks or key in looked:
            return
        name = f"verify {rollout.name}, release {status.release}, {kind}"
        self._tasks[key] = asyncio.create_task(self._run(rollout, kind), name=name)

    def end(self, name: str, *, but: Key | None = None) -> None:
        """End all of a rollout, except one."""
        for key, task in self._tasks.items():
            if key[0] == name and key != but:
                task.cancel()

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, rollout: Rollout, kind: str) -> None:
        place = f"verification of the {kind}"
        try:
            await self._verifier(rollout, kind)
        except Exception as error:  # noqa: BLE001 - told, and begun again while it is wanted
            unforeseen = not isinstance(error, PhoenixError)
            self._faults.tell(rollout.name, place, error=error, unforeseen=unforeseen)
            await asyncio.sleep(PAUSE)
        else:
            self._faults.mended(rollout.name, place)

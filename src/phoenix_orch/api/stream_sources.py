"""What the streams tell: of one rollout, and of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from phoenix_orch.health_validator.observation import Observation
from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.rollout.status import Event

EVENTS = 100
"""Events that are looked at for new ones: more cannot come between two readings."""
OBSERVATIONS = 200
COMPONENTS = 5.0
"""Seconds between two looks at the components."""

Said = tuple[str, Any]


class RolloutSource:
    """`rollout` when its picture changes, then what led there: `verdict`, `event`, `observation`."""

    def __init__(self, operations: Operations, name: str) -> None:
        self._operations = operations
        self._name = name
        self._shown: dict[str, Any] = {}
        self._events: list[Event] | None = None
        self._observed: datetime | None = None

    async def read(self) -> AsyncIterator[Said]:
        view = await self._operations.view(self._name)
        events = await self._operations.events(self._name, EVENTS)
        before, self._events = self._events, events
        if before is not None:
            for event in events:
                if event not in before:
                    yield "event", _json(event)
        for observation in await self._new_observations(view.at):
            yield "observation", _json(observation)
        shown = _json(view)
        if shown["verdict"] is not None and shown["verdict"] != self._shown.get("verdict"):
            yield "verdict", shown["verdict"]
        if not _same(shown, self._shown):
            self._shown = shown
            yield "rollout", shown

    async def _new_observations(self, now: datetime) -> list[Observation]:
        since = self._observed or now
        found = await self._operations.observations(self._name, since, OBSERVATIONS)
        new = [observation for observation in found if observation.t1 > since]
        self._observed = max((observation.t1 for observation in new), default=since)
        return new

    def snapshot(self) -> list[Said]:
        return [("rollout", self._shown)] if self._shown else []


class OverviewSource:
    """`rollout` for each whose picture changes, `gone` for one that is removed, `components`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._changed: set[str] = set()
        self._shown: dict[str, dict[str, Any]] = {}
        self._moving: set[str] = set()
        self._components: Any = None
        self._looked = 0.0

    def changed(self, name: str) -> None:
        """A rollout to look at when reading next."""
        self._changed.add(name)

    async def read(self) -> AsyncIterator[Said]:
        now = asyncio.get_running_loop().time()
        if now - self._looked >= COMPONENTS or self._components is None:
            self._looked = now
            components = (await self._operations.info()).get("components")
            if components != self._components:
                self._components = components
                yield "components", components
        names, self._changed = sorted(self._changed), set()
        for name in names:
            try:
                shown = _json(await self._operations.view(name))
            except NotFound:
                self._shown.pop(name, None)
                yield "gone", {"name": name}
                continue
            except BaseException:
                self._changed.update(names)
                raise
            if not _same(shown, self._shown.get(name, {})):
                self._shown[name] = shown
                yield "rollout", shown

    def snapshot(self) -> list[Said]:
        return [("components", self._components)] if self._components is not None else []


def _json(model: BaseModel) -> dict[str, Any]:
    shown: dict[str, Any] = model.model_dump(mode="json", by_alias=True)
    return shown


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """The pictures differ in nothing but their moments."""
    return _timeless(one) == _timeless(other)


def _timeless(shown: dict[str, Any]) -> dict[str, Any]:
    rest = {name: part for name, part in shown.items() if name not in {"at", "timeLeft"}}
    if rest.get("workload"):
        rest["workload"] = {name: part for name, part in rest["workload"].items() if name != "at"}
    return rest

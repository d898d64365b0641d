"""What is releasing, what is wrong, what is due. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from phoenix_orch.orchestrator import wording
from phoenix_orch.orchestrator.flow_views import FreezeView
from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.status import ACTIVE, State

_MOVING = ACTIVE | {State.BAKING, State.ROLLING_BACK, State.CANCELLING}
SOON = timedelta(days=1)
FINE = frozenset({"ok", "ready"})
"""States of a component with which nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Item:
    """One line, and the rollout that it leads to."""

    name: str
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Overview:
    """What the first page tells. Freezes stand beside what else is due."""

    releasing: tuple[RolloutView, ...]
    wrong: tuple[Item, ...]
    due: tuple[Item, ...]
    freezes: tuple[FreezeView, ...]
    """Those in force, and those that begin within a day."""


def overview(
    views: Sequence[RolloutView],
    components: Sequence[Mapping[str, Any]],
    freezes: Sequence[FreezeView] = (),
) -> Overview:
    now = max((view.at for view in views), default=None)
    return Overview(
        freezes=tuple(one for one in freezes if one.open or _soon(one, now)),
        releasing=tuple(view for view in views if view.rollout.status.state in _MOVING),
        wrong=(*_components(components), *(item for view in views for item in _wrong(view))),
        due=tuple(item for view in views for item in _due(view)),
    )


def _soon(freeze: FreezeView, now: datetime | None) -> bool:
    return freeze.begin is not None and now is not None and timedelta(0) <= freeze.begin - now <= SOON


def _components(components: Sequence[Mapping[str, Any]]) -> list[Item]:
    broken = [one for one in components if one["state"] not in FINE]
    return [
        Item("", f"{one['name']}: {one.get('detail') or one['state']}", "phoenix doctor says more")
        for one in broken
    ]


def _wrong(view: RolloutView) -> list[Item]:
    status, name = view.rollout.status, view.rollout.name
    found = [Item(name, f"{fault.at}: {fault.message}", fault.remedy) for fault in view.faults]
    if status.state is State.ROLLED_BACK and status.cause is not None:
        version = wording.version(view, status.cause.revision)
        found.append(
            Item(
                name,
                f"{version} was rolled back: {status.cause.reason}",
                "mend it, then retry or start another",
            )
        )
    if view.traffic is not None and view.traffic.drifted:
        found.append(Item(name, "the weight was changed by somebody else", "Phoenix puts it back"))
    if status.verification is not None and not status.verification.ok and status.state not in ACTIVE:
        found.append(Item(name, f"verification failed: {status.verification.failures}"))
    return found


def _due(view: RolloutView) -> list[Item]:
    status, name = view.rollout.status, view.rollout.name
    if status.obstacle is not None:
        return [Item(name, f"waits: {status.obstacle.message}")]
    if status.state is State.PAUSED:
        return [Item(name, f"paused by {status.pause_by or 'Phoenix'}", "resume or abort it")]
    if view.time_left is None:
        return []
    what = "the bake ends" if status.state is State.BAKING else "rests"
    return [Item(name, f"{what} when nothing goes wrong: {wording.left(view)}")]

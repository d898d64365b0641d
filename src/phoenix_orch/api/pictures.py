"""Views as text. Of a rollout that is as it was, only the moment and the time left are written anew."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from phoenix_orch.kernel.units import format_duration
from phoenix_orch.orchestrator.views import RolloutView

MOST = 5_000
"""Views that are kept; of 2,000 rollouts with their phases that is about 30 MB."""
GOES_ON = frozenset({"at", "time_left"})
"""Fields that change with time alone."""
_MOMENT = TypeAdapter(datetime)


class Pictures:
    """Keeps the masked text of the last view of each rollout."""

    def __init__(self, masked: Callable[[Any], Any]) -> None:
        self._masked = masked
        self._kept: dict[str, tuple[RolloutView, str]] = {}

    async def array(self, views: Iterable[RolloutView]) -> bytes:
        """A list of views in JSON. Others get their turn after each that has to be written."""
        texts = []
        for view in views:
            before = self._kept.get(view.rollout.name)
            texts.append(self.text(view))
            if self._kept.get(view.rollout.name) is not before:
                await asyncio.sleep(0)
        return f"[{','.join(texts)}]".encode()

    def text(self, view: RolloutView) -> str:
        """One view in JSON, fit to leave."""
        name = view.rollout.name
        kept = self._kept.get(name)
        if kept is None or not _as_it_was(kept[0], view):
            if len(self._kept) >= MOST:
                self._kept.clear()
            shown = self._masked(view.model_dump(mode="json", by_alias=True))
            del shown["at"], shown["timeLeft"]
            kept = self._kept[name] = (view, _json(shown))
        left = "null" if view.time_left is None else f'"{format_duration(view.time_left)}"'
        return f'{{"at":{_MOMENT.dump_json(view.at).decode()},"timeLeft":{left},{kept[1][1:]}'


def _as_it_was(one: RolloutView, other: RolloutView) -> bool:
    """The same but for what goes on by itself. What did not change is mostly the very same object."""
    before, now = one.__dict__, other.__dict__
    return all(part is now[name] or part == now[name] for name, part in before.items() if name not in GOES_ON)


def _json(shown: Any) -> str:
    # Halves of characters, which a text may hold, are escaped: as bytes they could not be written.
    return json.dumps(shown, separators=(",", ":"))

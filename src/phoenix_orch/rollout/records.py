"""Rollouts as they are in the store, with what was decided for them while it was away."""

from __future__ import annotations

from phoenix_orch.kernel.errors import Conflict, NotFound, PhoenixError
from phoenix_orch.rollout.status import Rollout
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.rollout.unsaved import Decided, Unsaved
from phoenix_orch.runtime.faults import Faults


class Records:
    """The records of one controller."""

    def __init__(self, store: RolloutStore, faults: Faults) -> None:
        self._store = store
        self._faults = faults
        self._unsaved: dict[str, Unsaved] = {}
        self.known: dict[str, Rollout] = {}
        """Each as it was decided last."""

    def latest(self, listed: Rollout) -> Rollout:
        """As this process decided it last, where a list is behind that."""
        known = self.known.get(listed.name)
        return known if known is not None and known.version >= listed.version else listed

    async def read(self, name: str) -> tuple[Rollout, bool]:
        """The rollout with everything decided for it, and whether all of that is in the store."""
        try:
            rollout = await self._store.get(name)
            rollout = await self._catch_up(rollout)
        except (Conflict, NotFound):
            raise
        except PhoenixError as error:
            self._faults.tell(name, "store", error=error)
            if name not in self.known:
                raise
            return self.known[name], False
        self._faults.mended(name, "store")
        return rollout, True

    async def _catch_up(self, rollout: Rollout) -> Rollout:
        """Store what was decided while the store was away."""
        unsaved = self._unsaved.get(rollout.name)
        if unsaved is None or not unsaved.continues(rollout):
            self._unsaved.pop(rollout.name, None)
            return rollout
        while unsaved.waiting:
            oldest = unsaved.waiting[0]
            rollout = await self._store.save(
                rollout, oldest.status, events=oldest.events, release=oldest.release
            )
            unsaved.confirmed(rollout)
        del self._unsaved[rollout.name]
        return rollout

    async def save(self, rollout: Rollout, decided: Decided, *, stored: bool) -> Rollout:
        """Write it, or keep it until the store is back. Raises Conflict."""
        if stored:
            try:
                return await self._store.save(
                    rollout, decided.status, events=decided.events, release=decided.release
                )
            except Conflict:
                raise
            except PhoenixError as error:
                self._faults.tell(rollout.name, "store", error=error)
        self._unsaved.setdefault(rollout.name, Unsaved(rollout)).add(decided)
        return rollout.model_copy(update={"status": decided.status})

    def forget(self, name: str) -> None:
        """The rollout was removed."""
        self.known.pop(name, None)
        self._unsaved.pop(name, None)

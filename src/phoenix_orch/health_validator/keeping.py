"""What the store keeps of the judging of a rollout: read where the validator goes on from there, and written
after every observation."""

from __future__ import annotations

from datetime import timedelta

import structlog
from pydantic import ValidationError

from phoenix_orch.health_validator.observation import Verdict
from phoenix_orch.health_validator.watch import PATIENCE, Memory, Watch, within
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import Conflict, NotFound, PhoenixError, Retryable
from phoenix_orch.rollout.store.store import RolloutStore

WITHOUT = timedelta(seconds=30)
"""Real time for which the judge waits for what it knew of a release, before it begins anew without."""

_log = structlog.get_logger(__name__)


class Keeping:
    """Loads what was published, and publishes. Says what hinders it to the watch."""

    def __init__(self, store: RolloutStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def load(self, watch: Watch) -> bool:
        """Go on from what was published last. False while that cannot be read."""
        if watch.loaded:
            return True
        try:
            kept = await within(PATIENCE, self._store.verdict(watch.rollout.name))
            shown = await within(PATIENCE, self._store.judged(watch.rollout.name))
        except Retryable as error:
            watch.trouble("log", error.message)
            return await self._begin_without(watch)
        watch.loaded = True
        self._seen_last(watch, shown, kept[0] if kept is not None else None)
        if kept is not None:
            try:
                watch.memory = Memory.model_validate_json(kept[1])
            except ValidationError:
                _log.warning(
                    "the judge begins anew: what was stored cannot be read", rollout=watch.rollout.name
                )
        return True

    async def _begin_without(self, watch: Watch) -> bool:
        """Where the rollout can be read and the judge's state cannot, for long, judge from here on: with no
        evidence, which is never a pass (R1). False where it is too early for that."""
        watch.begun = watch.begun or self._clock.now()
        if "store" in watch.faults or self._clock.real(self._clock.now() - watch.begun) < WITHOUT:
            return False
        try:
            shown = await within(PATIENCE, self._store.judged(watch.rollout.name))
        except Retryable:
            return False
        _log.warning("the judge begins anew: what it knew cannot be read", rollout=watch.rollout.name)
        watch.loaded, watch.memory = True, None
        self._seen_last(watch, shown, None)
        return True

    def _seen_last(self, watch: Watch, shown: Verdict | None, kept: Verdict | None) -> None:
        """`shown`: the last verdict; `kept`: the one that the judge's state goes with."""
        watch.verdict = shown
        watch.clock_back = shown is not None and shown.at > self._clock.now()
        watch.convicted = shown if shown != kept else None

    async def publish(self, watch: Watch) -> None:
        """First what others act on, which no log delays. Then the log, the observation before the verdict:
        one that overlaps the next one was logged and never judged."""
        name, back = watch.rollout.name, watch.clock_back
        try:
            await self._show(watch)
            while watch.unlogged:
                await within(PATIENCE, self._store.append_observation(name, watch.unlogged[0]))
                watch.unlogged.popleft()
                watch.mended("log")
            if watch.unpublished is not None:
                put = self._store.put_verdict(name, *watch.unpublished, clock_back=back)
                await within(PATIENCE, put)
                watch.unpublished, watch.clock_back = None, False
                watch.mended("log")
        except NotFound:
            watch.drop()
        except Conflict as error:
            _log.warning("going on from what another validator published", rollout=name, by=error.message)
            watch.drop()
            watch.loaded, watch.memory = False, None
        except Retryable as error:
            watch.trouble("log", error.message)

    async def _show(self, watch: Watch) -> None:
        """What could not be shown is followed by the next one. Raises NotFound, Conflict."""
        if watch.unshown is None:
            return
        shown = self._store.show_verdict(watch.rollout.name, watch.unshown, clock_back=watch.clock_back)
        try:
            await within(PATIENCE, shown)
        except (NotFound, Conflict):
            raise
        except PhoenixError as error:
            watch.trouble("verdict", error.message)
            return
        watch.mended("verdict")
        watch.unshown = None

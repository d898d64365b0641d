"""Refuse a release that has no chance: stable itself does not keep the limits it would be judged by."""

from __future__ import annotations

from phoenix_orch.health_validator.plan import plan, stable_past, unattainable
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import BadState
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import Rollout
from phoenix_orch.rollout.store.store import RolloutStore

LOG = 20_000
"""Observations that the log holds at most."""


async def refuse_unattainable(store: RolloutStore, clock: Clock, rollout: Rollout, spec: RolloutSpec) -> None:
    """Raises BadState when stable's past proves that it breaks a limit of `spec`."""
    if rollout.status.stable is None:
        return
    parameters = spec.policy.statistical
    since = clock.now() - parameters.history
    found = await store.observations(rollout.name, since=since, limit=LOG)
    broken = plan(spec, stable_past(found, rollout.status.stable, parameters)).broken
    if broken:
        raise BadState(
            f"{rollout.name}: {unattainable(broken[0])}",
            remedy="raise the limit or mend what fails; --even-if-unattainable releases it all the same. "
            f"`phoenix plan --from {rollout.name}` shows every limit",
        )

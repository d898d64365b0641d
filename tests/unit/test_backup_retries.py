"""A backup whose run was killed is tried until the lease that it held has ended."""

from __future__ import annotations

from datetime import timedelta

from phoenix_orch.orchestrator.backup_tasks import RUN, kinds
from phoenix_orch.recovery.lease import TTL
from phoenix_orch.recovery.lease_rules import GRACE


def test_the_attempts_outlast_the_lease_of_one_that_was_killed() -> None:
    """Each is refused at once while the lease stands, and as much as can be of each wait is cut off."""
    (spec,) = [one.spec for one in kinds(None) if one.spec.kind == RUN]  # type: ignore[arg-type]
    retries = spec.retries
    waits = [min(retries.wait * 2**number, retries.longest) for number in range(retries.attempts - 1)]
    assert sum(waits, timedelta()) * (1 - retries.jitter) > TTL + GRACE

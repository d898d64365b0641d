"""What phoenix.yaml says of drills: when recovery is rehearsed, and how well it has to go. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field

from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec import Model

_Target = Annotated[Duration, Field(gt=timedelta(0), le=timedelta(days=366))]
_Kept = Annotated[Duration, Field(gt=timedelta(0), le=timedelta(days=3660))]


def _cron(text: str) -> str:
    try:
        next(CronSim(text, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration):
        raise ValueError(f"{text!r} is no cron expression of five fields") from None
    return text


_Cron = Annotated[str, Field(min_length=9, max_length=100), AfterValidator(_cron)]


class DrillSpec(Model):
    """Rehearsals of recovery."""

    daily: _Cron = "11 5 * * *"
    """When the backups are checked: a cron line in UTC, as the others."""
    weekly: _Cron = "31 5 * * 0"
    """When copies drawn by lot are restored into scratch places."""
    monthly: _Cron = "47 5 1 * *"
    """When everything is recovered from the bucket and the offline key alone. Runs by itself only where
    `offlineIdentityFile` is given."""
    offline_identity_file: Annotated[str, Field(min_length=1, max_length=4000)] | None = None
    """Where the offline private key is found while the monthly drill runs, as on a token that is put in for
    it. It should not lie there at other times. Left out: a person runs the monthly drill and names it."""
    rto: _Target = timedelta(minutes=30)
    """All steps of the full recovery together may take this long."""
    rpo: _Target | None = None
    """The state that is recovered may be this old; left out: two intervals of the component's schedule."""
    keep: _Kept = timedelta(days=400)
    """How long reports are kept."""

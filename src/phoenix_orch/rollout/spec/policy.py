"""What to do when the answer of the judge is not a plain yes. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec.base import Model
from phoenix_orch.rollout.spec.statistical import Statistical


class CrashLoop(Model):
    """How many unexpected exits of one variant, beyond those of stable, are a crash loop."""

    exits: Annotated[int, Field(ge=1, le=100)] = 2
    """So many unexpected exits more than stable."""
    within: Duration = timedelta(minutes=5)
    """Exits longer ago do not count."""


class Policy(Model):
    """What to do when the answer is not a plain yes."""

    gate: Literal["statistical", "literal"] = "statistical"
    """The rule of the verdict: `statistical` decides by evidence that may be looked at after every
    interval; `literal` is the guide's own point rule."""
    statistical: Statistical = Statistical()
    """Parameters of the statistical gate."""
    on_environment: Literal["hold", "rollback"] = "hold"
    """When stable breaks its limits as well: wait until it recovers, or take the release back."""
    on_relative_regression: Literal["rollback", "hold"] = "rollback"
    """When the canary is worse than stable and yet within its limits."""
    on_no_decision: Literal["pause", "rollback", "promote"] = "pause"
    """When a step cannot be judged after all extensions: wait for a person (until holdTimeout), take the
    release back, or go on if enough requests were seen and all values are within their limits."""
    early_advance: bool = False
    """Leave a phase before its time as soon as its limits are proven."""
    min_requests: Annotated[int, Field(ge=1)] = 10
    """Fewer canary requests than this are no evidence."""
    no_data: Literal["hold", "rollback"] = "hold"
    """Without an answer from the source of evidence, or from the canary to anybody: wait, or take the release
    back."""
    hold_timeout: Duration = timedelta(hours=1)
    """A release that had to wait this long is not waited for any longer."""
    on_hold_timeout: Literal["pause", "rollback"] = "rollback"
    """What happens then: a person is waited for, or the release is taken back."""
    stale_verdict: Duration = timedelta(minutes=2)
    """A verdict older than this is no verdict."""
    on_stale_verdict: Literal["hold", "rollback"] = "hold"
    """While the health validator is silent: wait, or take the release back."""
    on_failure: Literal["rollback", "pause"] = "rollback"
    """On a rollback verdict: take the release back, or freeze it for a person."""
    bake: Duration = timedelta(minutes=30)
    """The new version is watched so long after promotion, the old one kept warm."""
    progress_deadline: Duration = timedelta(minutes=10)
    """A canary that is not ready after this is taken back."""
    crash_loop: CrashLoop = CrashLoop()
    """How many exits are a crash loop."""

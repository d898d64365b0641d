"""What stable did before the release: how bursty its errors are, how its latency is spread. Pure.

Read once, before the first observation of a release is judged, and fixed for it: evidence stays valid
because nothing in it depends on what is judged.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from datetime import timedelta

from pydantic import BaseModel, ConfigDict

from phoenix_orch.health_validator import histogram
from phoenix_orch.health_validator.observation import Arm, Observation, Quality
from phoenix_orch.health_validator.sequential import dispersion
from phoenix_orch.rollout.spec import Statistical

RARE = 1e-4
"""A share of requests below which a tail is not known well."""

EDGES = 10
"""Latency edges kept at most: the state of the judge carries them."""

MOST = 20_000
"""Observations read at most: as many as the log holds."""

FEWEST = 10
"""Fewer windows are no history."""

_COUNTED = frozenset({Quality.OK, Quality.MERGED, Quality.PARTIAL})


class History(BaseModel):
    """Stable's past in about half a kilobyte. Empty: nothing is known, defaults are used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    windows: int = 0
    """Stretches of time that it stands on."""
    requests: int = 0
    errors: int = 0
    dispersion: float | None = None
    """Of errors; None: unknown."""
    abandoned: float | None = None
    """Of requests that clients gave up on; None: unknown."""
    edges: tuple[float, ...] = ()
    """Finite upper edges of latency in seconds, rising."""
    slower: tuple[float, ...] = ()
    """Share of requests that took longer than each edge, 0..1."""
    spread: tuple[float, ...] = ()
    """Dispersion of those, one for each edge."""

    def dispersion_of(self, edge: float, unknown: float) -> float:
        """Of requests slower than `edge` seconds: that of the nearest known edge."""
        if not self.edges:
            return unknown
        return min(zip(self.edges, self.spread, strict=True), key=lambda known: _apart(known[0], edge))[1]

    def odds(self, edge: float, tolerance: float, floor: float, cap: float) -> float:
        """By how much the odds of being slower than `edge` rise when everything takes `tolerance` longer.

        Read from the tail between edges on logarithmic scales, `floor` at least and `cap` at most; `cap`
        where the tail is not known.
        """
        before, after = self._slower(edge / (1 + tolerance)), self._slower(edge)
        if before is None or after is None or not 0 < after <= before < 1:
            return cap
        ratio = before / (1 - before) / (after / (1 - after))
        return min(max(ratio, floor), cap)

    def _slower(self, edge: float) -> float | None:
        """The share slower than `edge`, from the odds at the edges around it."""
        place = bisect_right(self.edges, edge * (1 + 1e-9))
        if place == 0 or place == len(self.edges):
            exact = place > 0 and math.isclose(self.edges[-1], edge, rel_tol=1e-9)
            return self.slower[-1] if exact else None
        low, high = self.edges[place - 1], self.edges[place]
        above, below = self.slower[place - 1], self.slower[place]
        part = math.log(edge / low) / math.log(high / low)
        if part <= 1e-6:
            return above
        if not 0 < below <= above < 1:
            return None
        logit = (1 - part) * math.log(above / (1 - above)) + part * math.log(below / (1 - below))
        return 1 / (1 + math.exp(-logit))


def wanted(parameters: Statistical, interval: timedelta) -> int:
    """How many of the newest observations are the history, however old they are: an old past tells more
    than none."""
    return max(1, min(MOST, math.ceil(parameters.history / interval)))


def learn(
    observations: Iterable[Observation], parameters: Statistical, *, stable: str | None = None
) -> History:
    """The history from past observations in the order of time.

    Of each the arm of the revision `stable` counts, also from when that was the canary or was baking; where
    there is none, the arm that was stable then. Of less than ten windows nothing is learnt.
    """
    seconds = parameters.history_window.total_seconds()
    windows: dict[int, Arm] = {}
    for observation in observations:
        arm = usual(observation, stable)
        if arm is None or arm.quality not in _COUNTED:
            continue
        stretch = math.floor(observation.t1.timestamp() / seconds)
        known = windows.get(stretch)
        windows[stretch] = arm if known is None else _sum(known, arm)
    kept = [windows[stretch] for stretch in sorted(windows)]
    if len(kept) < FEWEST:
        return History()
    return _history(kept, parameters)


def usual(observation: Observation, stable: str | None) -> Arm | None:
    """The arm that shows what is usual, see `learn`."""
    if stable is not None and observation.canary.revision == stable:
        return observation.canary
    return observation.stable


def _history(windows: list[Arm], parameters: Statistical) -> History:
    errors, _ = dispersion.estimate(
        ((arm.errors, arm.requests) for arm in windows),
        prior=parameters.dispersion_prior_errors,
        safety=parameters.dispersion_safety,
        cap=parameters.dispersion_cap,
    )
    abandoned, _ = dispersion.estimate(
        ((arm.abandoned, arm.arrived) for arm in windows),
        prior=parameters.dispersion_unknown,  # who leaves takes all requests along that he has sent
        safety=parameters.dispersion_safety,
        cap=parameters.dispersion_cap,
    )
    together: histogram.Buckets = ()
    for arm in windows:
        together = histogram.merged(together, arm.buckets)
    timed = histogram.total(together)
    edges = _telling(together, timed)
    return History(
        windows=len(windows),
        requests=sum(arm.requests for arm in windows),
        errors=sum(arm.errors for arm in windows),
        dispersion=round(errors, 3),
        abandoned=round(abandoned, 3),
        edges=edges,
        slower=tuple(_rounded(histogram.certainly_above(together, edge) / timed) for edge in edges),
        spread=tuple(round(_spread(windows, edge, parameters), 3) for edge in edges),
    )


def _telling(together: histogram.Buckets, timed: int) -> tuple[float, ...]:
    """The edges between which latency lies: from the last that nearly all exceed to the first that nearly
    none does."""
    finite = [edge for edge, _ in together[:-1]]
    shares = [histogram.certainly_above(together, edge) / timed for edge in finite] if timed else []
    inside = [place for place, share in enumerate(shares) if RARE < share < 1 - RARE]
    if not inside:
        return ()
    near = finite[max(0, inside[0] - 1) : inside[-1] + 2]
    return histogram.thinned(near, EDGES + 1)[:-1]


def _spread(windows: list[Arm], edge: float, parameters: Statistical) -> float:
    found, _ = dispersion.estimate(
        (
            (histogram.certainly_above(arm.buckets, edge), histogram.total(arm.buckets))
            for arm in windows
            if arm.buckets
        ),
        prior=parameters.dispersion_prior_latency,
        safety=parameters.dispersion_safety,
        cap=parameters.dispersion_cap,
    )
    return found


def _sum(first: Arm, second: Arm) -> Arm:
    return second.model_copy(
        update={
            "requests": first.requests + second.requests,
            "errors": first.errors + second.errors,
            "abandoned": first.abandoned + second.abandoned,
            "buckets": histogram.merged(first.buckets, second.buckets),
        }
    )


def _rounded(share: float) -> float:
    return float(f"{share:.4g}")


def _apart(first: float, second: float) -> float:
    return abs(math.log(first / second)) if first > 0 and second > 0 else math.inf

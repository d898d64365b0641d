"""Where every rollout stands, as numbers: told at each pass, shown when somebody looks, gone with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import nlargest

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

MOST_ROLLOUTS = 1000
"""Rollouts with series of their own: those on their way before those at rest, then those that changed last.
Of all of them the states are counted."""


@dataclass(frozen=True, slots=True)
class RolloutFacts:
    """One rollout at one pass over it."""

    name: str
    state: str
    resting: bool
    release: int
    step: int
    """From 1; 0 where no release is on its way."""
    steps: int
    wanted: int
    """Per cent that the canary should have."""
    seen: int | None
    """Per cent that the router is seen to send; None: it does not say."""
    state_seconds: float
    """Since the state was entered, by the clock of the rollout."""
    step_seconds: float
    """That count for the step: 0 while its clock stands."""


@dataclass(frozen=True, slots=True)
class VerdictFacts:
    """The last verdict on one rollout."""

    name: str
    kind: str
    reason: str
    at: float
    """Seconds since 1970."""


class RolloutCollector(Collector):
    """phoenix_rollout_* and phoenix_verdict_* of what this process drives and judges."""

    def __init__(self) -> None:
        self._rollouts: dict[str, RolloutFacts] = {}
        self._verdicts: dict[str, VerdictFacts] = {}

    def passed(self, facts: RolloutFacts) -> None:
        """The controller has looked at a rollout."""
        self._rollouts[facts.name] = facts

    def judged(self, facts: VerdictFacts) -> None:
        """The validator has judged a rollout."""
        self._verdicts[facts.name] = facts

    def forget(self, name: str) -> None:
        """A rollout is gone."""
        self._rollouts.pop(name, None)

    def forget_verdict(self, name: str) -> None:
        """A rollout is no longer judged."""
        self._verdicts.pop(name, None)

    def forget_rollouts(self) -> None:
        """They are no longer driven by this process."""
        self._rollouts.clear()

    def describe(self) -> list[Metric]:
        return list(rollout_families((), 0)) + list(verdict_families(()))

    def collect(self) -> Iterator[Metric]:
        every = list(self._rollouts.values())
        shown = chosen(every)
        yield from rollout_families(shown, len(every) - len(shown), Counter(one.state for one in every))
        verdicts = list(self._verdicts.values())
        yield from verdict_families(nlargest(MOST_ROLLOUTS, verdicts, key=lambda one: one.at))


def chosen(rollouts: list[RolloutFacts], most: int = MOST_ROLLOUTS) -> list[RolloutFacts]:
    """Those that have series of their own."""
    if len(rollouts) <= most:
        return rollouts
    return nlargest(most, rollouts, key=lambda one: (not one.resting, -one.state_seconds))


def rollout_families(
    rollouts: Iterable[RolloutFacts], left_out: int, states: Counter[str] | None = None
) -> Iterator[Metric]:
    """`states`: how many rollouts are in each."""
    total = GaugeMetricFamily("phoenix_rollouts", "Rollouts by state.", labels=["state"])
    for state, number in sorted((states or {}).items()):
        total.add_metric([state], number)
    yield total
    yield GaugeMetricFamily(
        "phoenix_rollouts_left_out",
        f"Rollouts without series of their own, because there are more than {MOST_ROLLOUTS:,}.",
        value=left_out,
    )
    states_of = GaugeMetricFamily(
        "phoenix_rollout_state", "1 for the state that a rollout is in.", labels=["rollout", "state"]
    )
    plain = _plain()
    for one in rollouts:
        states_of.add_metric([one.name, one.state], 1)
        values = (one.release, one.step, one.steps, one.wanted, one.seen, one.state_seconds, one.step_seconds)
        for family, value in zip(plain, values, strict=True):
            if value is not None:
                family.add_metric([one.name], value)
    yield states_of
    yield from plain


def _plain() -> list[GaugeMetricFamily]:
    about = {
        "release": "Number of the release, which counts up.",
        "step": "Step of the release on its way, from 1; 0: none.",
        "steps": "Steps that a release has.",
        "weight_wanted_percent": "Share of the requests that the canary should have.",
        "weight_seen_percent": "Share that the router is seen to send; no series while it does not say.",
        "state_seconds": "Since the state was entered, by the clock of the rollout.",
        "step_seconds": "That count for the step, by the clock of the rollout; 0 while the clock stands.",
    }
    return [
        GaugeMetricFamily(f"phoenix_rollout_{name}", text, labels=["rollout"]) for name, text in about.items()
    ]


def verdict_families(verdicts: Iterable[VerdictFacts]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "phoenix_verdict_state",
        "1 for what the last verdict on a rollout says, and why.",
        labels=["rollout", "verdict", "reason"],
    )
    when = GaugeMetricFamily(
        "phoenix_verdict_timestamp_seconds", "Time of the last verdict on a rollout.", labels=["rollout"]
    )
    for one in verdicts:
        state.add_metric([one.name, one.kind, one.reason], 1)
        when.add_metric([one.name], one.at)
    yield from (state, when)

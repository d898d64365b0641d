"""Stable released against itself, again and again: how often would the policy take back what is fine?

Each run pretends a release that begins at another moment of stable's past; where the past ends it goes on
at its beginning. The past is real, the split is drawn (see `thinning`), and the walk is the policy's own:
it advances when the policy says so.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from random import Random

from phoenix_orch.health_validator import judge
from phoenix_orch.health_validator.config import JudgeConfig
from phoenix_orch.health_validator.history import History, learn
from phoenix_orch.health_validator.observation import Observation, VerdictKind
from phoenix_orch.health_validator.tally import COUNTED
from phoenix_orch.health_validator.thinning import split
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec import Model, RolloutSpec

FEWEST = 12
"""Observations below which nothing can be pretended."""
SPLIT = "requests thinned at random, bad ones in clusters of the measured dispersion"


class Edge(Model):
    """How slow requests vary at one latency edge."""

    seconds: float
    slower: float
    """Share of requests that took longer, 0..1."""
    dispersion: float


class Blamed(Model):
    """A metric that took back what was fine."""

    metric: str
    runs: int
    rate: float


class Calibration(Model):
    """What came of all runs."""

    gate: str
    split: str = SPLIT
    seed: int
    period: Duration
    """How much of the past there was."""
    requests: int
    runs: int
    rolled_back: int
    promoted: int
    undecided: int
    """Still held or extended when a step's longest time was over."""
    rounds: float
    """How often the past had to be gone through for one walk: above 1 it is short."""
    rate: float
    """False rollbacks per run."""
    lower: float
    upper: float
    """95 % interval of it (Wilson), as if the runs did not overlap."""
    median: Duration | None
    """Time to promotion."""
    blamed: tuple[Blamed, ...]
    phases: dict[str, int]
    """False rollbacks by phase."""
    windows: int
    """Of the history that dispersion stands on; 0: too little, the default is used."""
    error_rate: float
    dispersion: float | None
    """Of errors."""
    edges: tuple[Edge, ...]


def calibrate(
    spec: RolloutSpec,
    stable: Sequence[Observation],
    *,
    runs: int,
    seed: int,
    told: Callable[[int], None] = lambda _: None,
) -> Calibration:
    """`stable`: what `resting.past` gives, in the order of time. `told` hears how many runs are done.

    Raises Invalid when there is too little of it.
    """
    past = [o for o in stable if o.stable is not None and o.stable.quality in COUNTED and o.stable.requests]
    if len(past) < FEWEST:
        raise Invalid(
            f"{len(past)} observations of stable with requests are too few, {FEWEST} are needed",
            remedy="let it run for some minutes under traffic, or name a longer time with --since",
        )
    history = learn(past, spec.policy.statistical)
    config = JudgeConfig.of(spec, interval=_interval(past))
    dice = Random(seed)  # noqa: S311 - a simulation
    found: list[_Run] = []
    for number in range(runs):
        found.append(_run(config, history, past, dice))
        told(number + 1)
    return _summary(config, history, past, found, seed)


class _Run(Model):
    kind: str
    """rolledBack, promoted or undecided."""
    after: timedelta
    phase: str = ""
    blame: tuple[str, ...] = ()


def _run(config: JudgeConfig, history: History, past: Sequence[Observation], dice: Random) -> _Run:
    """One release of what is stable anyway."""
    state = judge.init(config, "canary", history=history)
    index, top = 0, len(config.steps) - 2
    begun = entered = past[0].t0
    for observation in _round(past, dice.randrange(len(past))):
        step = config.step(index)
        pretended = _pretended(config, history, observation, index, dice)
        state, verdict = judge.step(config, state, pretended, detail=False)
        after = observation.t1 - begun
        if verdict.kind is VerdictKind.ROLLBACK:
            return _Run(kind="rolledBack", after=after, phase=step.phase, blame=verdict.blame)
        if verdict.kind is VerdictKind.ADVANCE:
            if index == top:
                return _Run(kind="promoted", after=after)
            index, entered = index + 1, observation.t1
        elif observation.t1 - entered > step.duration * (config.statistical.hold + 1):
            return _Run(kind="undecided", after=after, phase=step.phase)
    raise AssertionError("the past goes round for ever")


def _round(past: Sequence[Observation], start: int) -> Iterator[Observation]:
    """The past from one place on, again and again, as if it had no gaps and no end."""
    now = past[0].t0
    for observation in itertools.chain(past[start:], itertools.cycle(past)):
        end = now + (observation.t1 - observation.t0)
        yield observation.model_copy(update={"t0": now, "t1": end})
        now = end


def _pretended(
    config: JudgeConfig, history: History, observation: Observation, index: int, dice: Random
) -> Observation:
    weight = config.step(index).weight
    arm = observation.stable
    assert arm is not None
    canary, rest = split(dice, arm, weight / 100, history, config.statistical)
    return observation.model_copy(
        update={
            "revision": "canary",
            "step": index,
            "weight_applied": weight,
            "canary": canary.model_copy(update={"revision": "canary"}),
            "stable": rest,
        }
    )


def _walk(config: JudgeConfig) -> timedelta:
    return sum((step.duration for step in config.steps[:-1]), timedelta())


def _interval(past: Sequence[Observation]) -> timedelta:
    lengths = sorted(observation.t1 - observation.t0 for observation in past)
    return lengths[len(lengths) // 2]


def _summary(
    config: JudgeConfig, history: History, past: Sequence[Observation], runs: Sequence[_Run], seed: int
) -> Calibration:
    kinds = Counter(run.kind for run in runs)
    bad = [run for run in runs if run.kind == "rolledBack"]
    blamed = Counter(metric for run in bad for metric in run.blame)
    lower, upper = wilson(len(bad), len(runs))
    times = sorted(run.after for run in runs if run.kind == "promoted")
    arms = [observation.stable for observation in past if observation.stable is not None]
    requests = sum(arm.requests for arm in arms)
    period = sum((observation.t1 - observation.t0 for observation in past), timedelta())
    return Calibration(
        gate=config.gate,
        seed=seed,
        period=timedelta(seconds=round(period.total_seconds())),
        requests=requests,
        runs=len(runs),
        rolled_back=len(bad),
        promoted=kinds["promoted"],
        undecided=kinds["undecided"],
        rounds=round(_walk(config) / period, 2),
        rate=len(bad) / len(runs),
        lower=lower,
        upper=upper,
        median=timedelta(seconds=round(times[len(times) // 2].total_seconds())) if times else None,
        blamed=tuple(
            Blamed(metric=metric, runs=count, rate=count / len(runs))
            for metric, count in blamed.most_common()
        ),
        phases=dict(Counter(run.phase for run in bad)),
        windows=history.windows,
        error_rate=sum(arm.errors for arm in arms) / requests,
        dispersion=history.dispersion,
        edges=tuple(
            Edge(seconds=edge, slower=slower, dispersion=spread)
            for edge, slower, spread in zip(history.edges, history.slower, history.spread, strict=True)
        ),
    )


def wilson(found: int, runs: int) -> tuple[float, float]:
    """95 % interval of a share, by Wilson's score."""
    z = 1.96
    share, scale = found / runs, 1 + z * z / runs
    centre = (share + z * z / (2 * runs)) / scale
    half = z * math.sqrt(share * (1 - share) / runs + z * z / (4 * runs * runs)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)

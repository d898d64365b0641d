"""What can happen to two versions of a service while one of them is released.

A scene is the truth behind the counters, per tick of 10 s: how much traffic there is, which share of it
fails and how long it takes, for canary (row 0) and stable (row 1). Healthy ones differ from the plain
one in what real services do without any fault of the new version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from benchmarks.judge.latency import HEAVY, SLOW_TAIL, USUAL, Floats, Law

TICK = 10.0
"""Seconds between two scrapes."""
BASE = 0.0004
"""Share of requests that fail in a healthy version: 0.04 %."""
MINUTE = 6
"""Ticks."""
CANARY, STABLE, BOTH = 0, 1, slice(None)

Kind = Literal["healthy", "tolerated", "outage", "bad"]


@dataclass
class Scene:
    """One drawn course of events; arrays of shape (2, ticks) or (ticks,)."""

    ticks: int
    traffic: Floats = field(init=False)
    errors: Floats = field(init=False)
    scale: Floats = field(init=False)
    laws: tuple[Law, Law] = (USUAL, USUAL)
    clustered: bool = False
    """Errors come in clusters, each of one client and so of one version."""

    def __post_init__(self) -> None:
        self.traffic = np.ones(self.ticks)
        self.errors = np.full((2, self.ticks), BASE)
        self.scale = np.ones((2, self.ticks))

    @property
    def minutes(self) -> Floats:
        """Middle of each tick, since the first step began."""
        return (np.arange(self.ticks) + 0.5) / MINUTE


Draw = Callable[[Scene, np.random.Generator], int]
"""Turns a plain scene into the scenario's; the tick at which a fault begins."""


@dataclass(frozen=True)
class Scenario:
    name: str
    kind: Kind
    says: str
    draw: Draw
    usual: bool = False
    """The service is always like that: stable's past shows it as well."""
    about_errors: bool = False
    """The fault is failed requests: what was lost until the decision is compared."""


def _noise(random: np.random.Generator, ticks: int, deviation: float, tau: float) -> Floats:
    """Factor with the logarithm a stationary AR(1): `deviation`, correlation time `tau` seconds."""
    keep = np.exp(-TICK / tau)
    kicks = random.normal(0.0, deviation * np.sqrt(1 - keep * keep), ticks)
    walk = np.empty(ticks)
    now = random.normal(0.0, deviation)
    for tick, kick in enumerate(kicks):
        now = keep * now + kick
        walk[tick] = now
    return np.exp(walk)


def _plain(_scene: Scene, _random: np.random.Generator) -> int:
    return 0


def _bursty(scene: Scene, _random: np.random.Generator) -> int:
    scene.clustered = True
    return 0


def _diurnal(scene: Scene, random: np.random.Generator) -> int:
    """Three hours of a morning: the error rate quadruples within 45 min, traffic rises by half."""
    phase = random.uniform(-0.2, 0.2)
    rise = np.clip(scene.minutes / 45.0 + phase, 0.0, 1.0)
    scene.errors[BOTH] = 0.0002 * 4.0**rise
    scene.traffic = 0.75 + 0.5 * rise
    scene.scale[BOTH] = 0.95 + 0.1 * rise
    return 0


def _heavy_tail(scene: Scene, _random: np.random.Generator) -> int:
    scene.laws = (HEAVY, HEAVY)
    return 0


def _cold_start(scene: Scene, _random: np.random.Generator) -> int:
    """The first requests of a new process take four times as long; after 30 s it is one fifth more."""
    seconds = scene.minutes * 60.0
    scene.scale[CANARY] = 1.0 + 3.0 * np.exp(-seconds / 10.0)
    return 0


def _latency_noise(scene: Scene, random: np.random.Generator) -> int:
    """Mostly shared (a database, a network), a little of each version's own (its nodes)."""
    shared = _noise(random, scene.ticks, 0.15, 60.0)
    for arm in (CANARY, STABLE):
        scene.scale[arm] = shared * _noise(random, scene.ticks, 0.03, 30.0)
    return 0


def _slow_drift(scene: Scene, _random: np.random.Generator) -> int:
    """Both versions get slower by a fifth over the 45 min, as caches fill and tables grow."""
    scene.scale[BOTH] = 1.0 + 0.2 * np.clip(scene.minutes / 45.0, 0.0, 1.0)
    return 0


def _slower(factor: float) -> Draw:
    def draw(scene: Scene, _random: np.random.Generator) -> int:
        scene.scale[CANARY] *= factor
        return 0

    return draw


def _outage(start: tuple[float, float], length: float, errors: float, slower: float) -> Draw:
    """Both versions alike, from a random minute on."""

    def draw(scene: Scene, random: np.random.Generator) -> int:
        begin = random.uniform(*start)
        during = (scene.minutes >= begin) & (scene.minutes < begin + length)
        scene.errors[:, during] = errors
        scene.scale[:, during] *= slower
        return int(begin * MINUTE)

    return draw


def _times(factor: float) -> Draw:
    def draw(scene: Scene, _random: np.random.Generator) -> int:
        scene.errors[CANARY] *= factor
        return 0

    return draw


def _more(points: float) -> Draw:
    """`points` of 100 in addition."""

    def draw(scene: Scene, _random: np.random.Generator) -> int:
        scene.errors[CANARY] += points / 100.0
        return 0

    return draw


def _all_fail(scene: Scene, _random: np.random.Generator) -> int:
    scene.errors[CANARY] = 1.0
    return 0


def _late(scene: Scene, _random: np.random.Generator) -> int:
    scene.errors[CANARY, 15 * MINUTE :] += 0.01
    return 15 * MINUTE


def _slow_burn(scene: Scene, _random: np.random.Generator) -> int:
    """One percentage point more after 40 min, a straight line from the first minute on."""
    scene.errors[CANARY] += 0.01 * np.clip(scene.minutes / 40.0, 0.0, 1.0)
    return 0


def _tail_only(scene: Scene, _random: np.random.Generator) -> int:
    scene.laws = (SLOW_TAIL, USUAL)
    return 0


def _bad_in_outage(scene: Scene, random: np.random.Generator) -> int:
    """The fault is there before the outage is, and may be found before it."""
    _outage((3.0, 8.0), 10.0, 0.03, 1.0)(scene, random)
    scene.errors[CANARY] *= 3.0
    return 0


def _crash(scene: Scene, random: np.random.Generator) -> int:
    """The process dies after some minutes: the router answers 502, at once."""
    begin = int(random.uniform(2.0, 8.0) * MINUTE)
    scene.errors[CANARY, begin:] = 1.0
    scene.scale[CANARY, begin:] = 0.02
    return begin


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("healthy", "healthy", "both versions equal", _plain),
    Scenario(
        "bursty", "healthy", "errors in clusters of 6 (Fano factor 11), in both versions", _bursty, usual=True
    ),
    Scenario("diurnal", "healthy", "error rate 0.02 to 0.08 %, traffic +67 %, in both", _diurnal),
    Scenario("heavy_tail", "healthy", "1 % of requests from a Pareto tail, in both", _heavy_tail, usual=True),
    Scenario("cold_start", "healthy", "the canary's first seconds take four times as long", _cold_start),
    Scenario(
        "latency_noise", "healthy", "latency of both +-15 % together, +-3 % each", _latency_noise, usual=True
    ),
    Scenario("slow_drift", "healthy", "latency of both +20 % over 45 min", _slow_drift),
    Scenario("latency_10", "tolerated", "canary 10 % slower, within the tolerance", _slower(1.1)),
    Scenario("outage", "outage", "3 % errors in both for 5 min", _outage((3.0, 8.0), 5.0, 0.03, 1.0)),
    Scenario(
        "outage_severe",
        "outage",
        "30 % errors and triple latency in both for 10 min",
        _outage((13.0, 20.0), 10.0, 0.3, 3.0),
    ),
    Scenario("errors_x2", "bad", "0.08 % errors", _times(2.0), about_errors=True),
    Scenario("errors_x5", "bad", "0.2 % errors", _times(5.0), about_errors=True),
    Scenario("errors_02", "bad", "+0.2 points of errors", _more(0.2), about_errors=True),
    Scenario("errors_1", "bad", "+1 point of errors", _more(1.0), about_errors=True),
    Scenario("errors_100", "bad", "every request fails", _all_fail, about_errors=True),
    Scenario("late_onset", "bad", "+1 point of errors after 15 min", _late, about_errors=True),
    Scenario("slow_burn", "bad", "errors rise to +1 point over 40 min", _slow_burn, about_errors=True),
    Scenario("crash", "bad", "the canary dies after 2 to 8 min", _crash, about_errors=True),
    Scenario("latency_30", "bad", "canary 30 % slower", _slower(1.3)),
    Scenario("latency_x2", "bad", "canary twice as slow", _slower(2.0)),
    Scenario("tail_only", "bad", "2 % of requests take half a second, p95 unchanged", _tail_only),
    Scenario(
        "bad_in_outage", "bad", "three times the errors all the time, and an outage of both", _bad_in_outage
    ),
)

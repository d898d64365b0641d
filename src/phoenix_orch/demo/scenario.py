"""What the demo releases, and what has to come of it. Pure."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import Outcome

SERVICE = "shop"
DEFAULT_SPEED = 20.0
"""The guide's 45 minutes and 5 of bake in 150 seconds; a window of evidence is 3 seconds, in which
5 % of the default rate are 60 requests."""
DEFAULT_RATE = 400.0
MOST_RATE = 2000
LEAST_EVIDENCE = 15
"""Canary requests that a window of evidence has to hold at the first phase's weight; the rule refuses
to judge on fewer than ten."""
AMPLE_EVIDENCE = 41
"""With so many, three slow ones are needed to move the p95. With a dozen a single one does, and any
laptop hiccups once in a while."""
FIRST_VERSION = "1"
BAKE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Planned:
    """One release of the demo. Only `fault` makes the bad ones differ from the good one."""

    name: str
    version: str
    fault: str
    title: str
    expected: Outcome
    triggers: tuple[str, ...] = ()
    """What may take it back: the `trigger` of a Cause."""
    blame: str = ""
    """The metric that has to be above its limit in the evidence; empty: none has to be."""

    @property
    def expectation(self) -> str:
        return "promoted to 100 %" if self.expected is Outcome.PROMOTED else "rolled back"


RELEASES: tuple[Planned, ...] = (
    Planned("good", "2", "", "a good version", Outcome.PROMOTED),
    Planned(
        "errors",
        "3",
        "errors:0.2",
        "one request in five fails",
        Outcome.ROLLED_BACK,
        triggers=("verdict",),
        blame="errorRate",
    ),
    Planned(
        "slow",
        "4",
        "slow:0.15",
        "slow in the tail: most are quick, some take 0.4 s",
        Outcome.ROLLED_BACK,
        triggers=("verdict",),
        blame="latencyP95",
    ),
    Planned(
        "crash",
        "5",
        "crash:5",
        "crash loop: ready, then gone",
        Outcome.ROLLED_BACK,
        triggers=("crash-loop", "verdict", "check/welcome"),
    ),
)


def chosen(names: Sequence[str]) -> tuple[Planned, ...]:
    """The releases of these names, in the order of the demo; none named: all. Raises Invalid."""
    known = [release.name for release in RELEASES]
    for name in names:
        if name not in known:
            raise Invalid(f"there is no demo release {name!r}", remedy=f"choose from {', '.join(known)}")
    return tuple(release for release in RELEASES if not names or release.name in names)


def check_pace(speed: float, rate: float) -> None:
    """Refuse what could show nothing: too few canary requests in a window to judge on. Raises Invalid."""
    if not 0 < rate <= MOST_RATE:
        raise Invalid(
            f"{rate:g} requests per second are not possible here", remedy=f"choose above 0, up to {MOST_RATE}"
        )
    fastest = _evidence(1.0, rate) / LEAST_EVIDENCE
    if not 0 < speed <= fastest:
        raise Invalid(
            f"at speed {speed:g} there is too little to judge on, or nothing moves",
            remedy=f"choose a speed above 0, up to {fastest:g}",
        )


def min_requests(speed: float, rate: float) -> int:
    """So many canary requests are wanted before anything is judged: ample, or most of a window."""
    return min(AMPLE_EVIDENCE, int(0.7 * _evidence(speed, rate)))


def _evidence(speed: float, rate: float) -> float:
    """Canary requests in one window at the first phase's weight."""
    spec = RolloutSpec()
    return rate * spec.steps()[0].weight / 100 * spec.evidence.window.total_seconds() / speed


def configuration(*, port: int, speed: float, rate: float) -> str:
    """phoenix.yaml of the demo, as JSON, which is YAML too. `port`: where users' requests arrive."""
    command = [sys.executable, "-P", "-m", "phoenix_orch.demo.service"]
    return json.dumps(
        {
            "router": {"listen": f"127.0.0.1:{port}"},
            "services": {
                SERVICE: {
                    "version": FIRST_VERSION,
                    "command": [*command, "--port", "{port}", "--version", "{version}"],
                    "replicas": 2,
                    "health": {"path": "/healthz"},
                    "metrics": "/metrics",
                    "drain": "5s",
                }
            },
            "routes": {SERVICE: {"service": SERVICE}},
            "rollouts": {SERVICE: _rollout(min_requests(speed, rate))},
        },
        indent=2,
    )


def _rollout(least: int) -> dict[str, object]:
    """The guide's phases are the default and stay; the bake is shortened."""
    return {
        "service": SERVICE,
        "checks": [
            {
                "name": "welcome",
                "http": {"url": "{canary}/", "contains": "welcome"},
                "interval": "20s",
                "threshold": 4,
            }
        ],
        "evidence": {"business": [{"name": "orders", "counter": "orders_total", "minPerRequest": 0.02}]},
        "policy": {"bake": format_duration(BAKE), "minRequests": least},
        "verify": {
            "logs": {"bad": ["panic:", "Traceback"]},
            "criticalPaths": [
                {
                    "name": "checkout",
                    "http": {"url": "{route}/checkout", "method": "POST", "contains": "order placed"},
                }
            ],
        },
    }

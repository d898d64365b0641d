"""Every rule on every scenario at every rate, and what that adds up to. Shares in per cent."""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.judge.peers import PEERS
from benchmarks.judge.phoenix import HORIZON, Ending, Run, past, spec
from benchmarks.judge.scenarios import CANARY, SCENARIOS, TICK, Scenario
from benchmarks.judge.streams import Stream
from benchmarks.judge.walk import TICKS, Release

from phoenix_orch.health_validator.config import JudgeConfig

PHOENIX, LITERAL = "phoenix", "phoenix-literal"
GATES = {PHOENIX: "statistical", LITERAL: "literal"}

Say = Callable[[str], None]
Cells = dict[str, dict[str, Any]]
"""By scenario, then by rule."""


HISTORIES = 16
"""Pasts of stable per scenario and rate; the releases take turns."""


def measured(rate: float, runs: int, scenarios: Iterable[Scenario], seed: int, say: Say) -> Cells:
    """All rules on the same `runs` streams of each scenario at `rate` requests per second."""
    configs = {rule: JudgeConfig.of(spec(gate)) for rule, gate in GATES.items()}
    cells: Cells = {}
    for scenario in scenarios:
        endings: dict[str, list[Ending]] = {rule: [] for rule in (*configs, *PEERS)}
        onsets = []
        # The name, not the place in the list: another scenario more changes no other one.
        numbers = (seed, zlib.crc32(scenario.name.encode()), round(rate * 1000))
        pasts = [
            past(scenario, rate, (*numbers, number, 2), configs[PHOENIX])
            for number in range(min(runs, HISTORIES))
        ]
        for run in range(runs):
            stream = Stream(scenario, rate, (*numbers, run), HORIZON)
            onsets.append(stream.onset)
            release = Release.of(stream)
            for rule, decide in PEERS.items():
                endings[rule].append(_peer(decide(release), release))
            for rule, config in configs.items():
                endings[rule].append(Run(config, stream, pasts[run % len(pasts)]).ending())
        cells[scenario.name] = {rule: _cell(found, onsets) for rule, found in endings.items()}
        say(f"{rate:g}/s {scenario.name}")
    return cells


def _peer(tick: int | None, release: Release) -> Ending:
    until = TICKS if tick is None else tick
    requests, errors, _ = release.counted(0, until)
    kind = "promoted" if tick is None else "rollback"
    return Ending(kind, until, int(requests[CANARY]), int(errors[CANARY]), blamed=tick is not None)


def _cell(endings: list[Ending], onsets: list[int]) -> dict[str, Any]:
    """A rollback before the fault began found nothing: it is counted as early, and not as found."""
    back = [(one, onset) for one, onset in zip(endings, onsets, strict=True) if one.kind == "rollback"]
    found = [(one, onset) for one, onset in back if one.tick > onset]
    number = len(endings)
    return {
        "rollback": _percent(len(back), number),
        "blamed": _percent(sum(one.blamed for one, _ in back), number),
        "found": _percent(len(found), number),
        "early": _percent(len(back) - len(found), number),
        "held": _percent(sum(one.kind == "hold" for one in endings), number),
        "medianSeconds": statistics.median((one.tick - onset) * TICK for one, onset in found)
        if found
        else None,
        "meanMinutes": round(statistics.fmean(one.tick for one in endings) * TICK / 60.0, 1),
        "exposed": round(statistics.fmean(one.exposed for one in endings), 2),
        "failed": round(statistics.fmean(one.failed for one in endings), 2),
    }


def _percent(part: int, of: int) -> float:
    return round(100.0 * part / of, 2)


def summary(cells: Cells, rule: str) -> dict[str, Any]:
    """One rule at one rate. What no scenario of a kind was run for is None."""

    def every(kind: str, what: str) -> list[float]:
        return [cells[one.name][rule][what] for one in SCENARIOS if one.kind == kind and one.name in cells]

    healthy, outage, found = every("healthy", "rollback"), every("outage", "blamed"), every("bad", "found")
    lost = [cells[one.name][rule]["failed"] for one in SCENARIOS if one.about_errors and one.name in cells]
    detection, false = _mean(found), _mean([*healthy, *every("outage", "rollback")])
    return {
        "falseRollback": _mean(healthy),
        "worstHealthy": max(healthy, default=None),
        "tolerated": _mean(every("tolerated", "rollback")),
        "blamedForOutage": _mean(outage),
        "detection": detection,
        "worstBad": min(found, default=None),
        "discrimination": None if detection is None or false is None else round(detection - false, 2),
        "heldHealthy": _mean(every("healthy", "held")),
        "heldBad": _mean(every("bad", "held")),
        "failedBeforeDecision": _geometric(lost),
    }


def _mean(values: list[float]) -> float | None:
    return round(statistics.fmean(values), 2) if values else None


def _geometric(values: list[float]) -> float | None:
    """Of what is at least a hundredth of a request each."""
    if not values:
        return None
    return round(math.exp(statistics.fmean(math.log(max(value, 0.01)) for value in values)), 2)

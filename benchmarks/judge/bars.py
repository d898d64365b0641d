"""What has to hold, and whether it did. A bar about something that was not measured has not been held."""

from __future__ import annotations

from typing import Any

from benchmarks.judge.outcomes import PHOENIX
from benchmarks.judge.peers import PEERS

BARS = {
    "falseEvidencePercentAt100": 1.0,
    "falseRollbackPercent": {"500": 1.0, "50": 1.0},
    "blamedForOutagePercent": {"500": 1.0, "50": 1.0},
    "detectionPercent": {"500": 99.0, "50": 90.0},
    "discriminationAboveEveryPeer": ["500", "50", "5"],
    "medianSeconds": {
        "errors_1 at 500/s": 30.0,
        "errors_100 at 5/s": 30.0,
        "tail_only at 500/s": 90.0,
    },
    "promotedWithoutEvidence": 0,
    "updatesPerSecond": 20_000,
    "stateBytes": 4096,
    "shareOfACorePercent": 10.0,
}


ASKED = {
    "falseEvidence": "at most 1 % of runs ever reach 100 : 1, the worst null",
    "falseRollbacks": "at most 1 % in the mean at 500/s and 50/s",
    "outages": "at most 1 % blamed at 500/s and 50/s",
    "detection": "at least 99 % at 500/s, 90 % at 50/s",
    "discrimination": "above the best peer's at 500/s, 50/s and 5/s",
    "speed": "errors_1 at 500/s 30 s, errors_100 at 5/s 30 s, tail_only at 500/s 90 s at most",
    "noEvidence": "no promotion without evidence",
    "updates": "at least 20,000 verdict updates a second on one core",
    "state": "at most 4,096 bytes, with every kind of metric",
    "manyRollouts": "10,000 rollouts under 10 % of a core",
}
"""In words, under the names of `held`."""


def figures(result: dict[str, Any]) -> dict[str, str]:
    """What was measured of each, in words; a dash for what was not."""
    rates, cost = result.get("rates", {}), result.get("cost", {})

    def each(what: str, *wanted: str, unit: str = " %") -> str:
        return ", ".join(_shown(rates.get(rate, {}).get("summary", {}), what) + unit for rate in wanted)

    def best(rate: str) -> str:
        summary = rates.get(rate, {}).get("summary", {})
        peers = [summary[rule]["discrimination"] for rule in PEERS if rule in summary]
        theirs = max((one for one in peers if one is not None), default="-")
        return f"{_shown(summary, 'discrimination')} to {theirs}"

    worst = max((one["percentAt100"] for one in result.get("typeOne", {}).get("nulls", [])), default="-")
    medians = [_median(rates, where) for where in BARS["medianSeconds"]]  # type: ignore[attr-defined]
    state = [cost[key] for key in ("stateBytes", "stateBytesWithEveryMetric") if key in cost]
    return {
        "falseEvidence": f"{worst} %",
        "falseRollbacks": each("falseRollback", "500", "50"),
        "outages": each("blamedForOutage", "500", "50"),
        "detection": each("detection", "500", "50"),
        "discrimination": ", ".join(map(best, BARS["discriminationAboveEveryPeer"])),  # type: ignore[call-overload]
        "speed": ", ".join("-" if one is None else f"{one:g} s" for one in medians),
        "noEvidence": str(result.get("silence", {}).get("promoted", "-")),
        "updates": str(cost.get("updatesPerSecond", "-")),
        "state": str(max(state, default="-")),
        "manyRollouts": f"{cost.get('shareOfACorePercent', '-')} %",
    }


def _shown(summary: dict[str, dict[str, Any]], what: str) -> str:
    value = summary.get(PHOENIX, {}).get(what)
    return "-" if value is None else str(value)


def held(result: dict[str, Any]) -> dict[str, bool]:
    rates = result.get("rates", {})
    ours = {rate: found["summary"][PHOENIX] for rate, found in rates.items()}

    def at_most(what: str, bars: dict[str, float]) -> bool:
        return all(_below(ours.get(rate, {}).get(what), bar) for rate, bar in bars.items())

    evidence, silence, cost = result.get("typeOne"), result.get("silence"), result.get("cost")
    return {
        "falseEvidence": bool(evidence)
        and all(one["percentAt100"] <= BARS["falseEvidencePercentAt100"] for one in evidence["nulls"]),
        "falseRollbacks": at_most("falseRollback", BARS["falseRollbackPercent"]),  # type: ignore[arg-type]
        "outages": at_most("blamedForOutage", BARS["blamedForOutagePercent"]),  # type: ignore[arg-type]
        "detection": all(
            _below(bar, ours.get(rate, {}).get("detection"))
            for rate, bar in BARS["detectionPercent"].items()  # type: ignore[attr-defined]
        ),
        "discrimination": all(
            rate in rates and _above_all(rates[rate]["summary"])
            for rate in BARS["discriminationAboveEveryPeer"]  # type: ignore[attr-defined]
        ),
        "speed": all(
            _below(_median(rates, where), bar)
            for where, bar in BARS["medianSeconds"].items()  # type: ignore[attr-defined]
        ),
        "noEvidence": bool(silence) and silence["promoted"] == 0,
        "updates": bool(cost) and cost["updatesPerSecond"] >= BARS["updatesPerSecond"],
        "state": bool(cost)
        and max(cost["stateBytes"], cost["stateBytesWithEveryMetric"]) <= BARS["stateBytes"],
        "manyRollouts": bool(cost) and cost["shareOfACorePercent"] < BARS["shareOfACorePercent"],
    }


def _below(value: float | None, bar: float | None) -> bool:
    return value is not None and bar is not None and value <= bar


def _above_all(summary: dict[str, dict[str, Any]]) -> bool:
    ours = summary[PHOENIX]["discrimination"]
    theirs = [summary[rule]["discrimination"] for rule in PEERS]
    return ours is not None and all(peer is not None and ours > peer for peer in theirs)


def _median(rates: dict[str, Any], where: str) -> float | None:
    scenario, _, rate = where.removesuffix("/s").partition(" at ")
    cells = rates.get(rate, {}).get("scenarios", {})
    found = cells.get(scenario, {}).get(PHOENIX, {}).get("medianSeconds")
    return None if found is None else float(found)

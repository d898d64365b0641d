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

"""The result as tables for people, in Markdown; the terminal and the page of the documentation alike."""

from __future__ import annotations

from typing import Any

from benchmarks.judge.bars import ASKED, figures
from benchmarks.judge.outcomes import LITERAL, PHOENIX
from benchmarks.judge.peers import PEERS
from benchmarks.judge.scenarios import SCENARIOS

RULES = (PHOENIX, LITERAL, *PEERS)

ROWS = (
    ("false rollback %, mean of the healthy", "falseRollback"),
    ("worst healthy scenario %", "worstHealthy"),
    ("10 % slower, tolerated: rollback %", "tolerated"),
    ("blamed for an outage of both %", "blamedForOutage"),
    ("detection %, mean of the bad", "detection"),
    ("worst bad scenario %", "worstBad"),
    ("**discrimination**", "discrimination"),
    ("held, healthy / never decided %", "heldHealthy"),
    ("held, bad / never decided %", "heldBad"),
    ("failed requests before the decision", "failedBeforeDecision"),
)


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def overview(result: dict[str, Any]) -> str:
    """One line per rate and figure, one column per rule."""
    rows = []
    for rate, found in result["rates"].items():
        for title, key in ROWS:
            cells = [_number(found["summary"][rule][key]) for rule in RULES]
            rows.append([rate, title, *cells])
    return _table(["requests/s", "", *RULES], rows)


def scenarios(result: dict[str, Any], rate: str) -> str:
    """Rollbacks in per cent of releases, with the median of seconds after the fault began."""
    rows = []
    for scenario in SCENARIOS:
        found = result["rates"][rate]["scenarios"].get(scenario.name)
        if found is None:
            continue
        cells = [_cell(found[rule], bad=scenario.kind == "bad") for rule in RULES]
        rows.append([scenario.name, scenario.kind, *cells])
    return _table(["scenario", "kind", *RULES], rows)


def _cell(cell: dict[str, Any], *, bad: bool) -> str:
    if not bad:
        return _number(cell["rollback"])
    median = cell["medianSeconds"]
    return _number(cell["found"]) if median is None else f"{_number(cell['found'])} / {median:,.0f} s"


def nulls(result: dict[str, Any]) -> str:
    rows = [
        [one["name"], _number(one["percentAt100"], 2), _number(one["percentAt20"], 2)]
        for one in result["typeOne"]["nulls"]
    ]
    return _table(["at the boundary of the null", "sup E >= 100, %", "sup E >= 20, %"], rows)


def cost(result: dict[str, Any]) -> str:
    found, silence = result["cost"], result["silence"]
    rows = [
        ["verdict updates per second, one core, without the chart", _number(found["updatesPerSecond"], 0)],
        ["the same with the intervals of the chart", _number(found["updatesPerSecondWithTheChart"], 0)],
        ["10,000 rollouts, a scrape every 10 s", f"{_number(found['shareOfACorePercent'])} % of a core"],
        ["state, the guide's walk", f"{found['stateBytes']:,} bytes"],
        ["state, every kind of metric", f"{found['stateBytesWithEveryMetric']:,} bytes"],
        [f"promotions in {silence['streams']:,} streams without evidence", str(silence["promoted"])],
    ]
    return _table(["", ""], rows)


def bars(result: dict[str, Any]) -> str:
    found = figures(result)
    rows = [
        [name, ASKED[name], found[name], "yes" if ok else "**no**"] for name, ok in result["held"].items()
    ]
    return _table(["bar", "asked", "measured", "held"], rows)

"""Does the judge tell good releases from bad ones, how soon, and is its evidence what it claims?

    python -m benchmarks.judge

Releases are simulated and given to Phoenix's judge and to the published rules of other tools, on the
same streams. Then: false evidence at the boundary of every null while looked at continuously, streams
without evidence, and what a verdict costs. Everything is seeded; the same options give the same table.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.conditions import conditions, end_in_order, write
from benchmarks.judge import cost, outcomes, page, report, silence, type_one
from benchmarks.judge.bars import BARS, held
from benchmarks.judge.outcomes import LITERAL, PHOENIX
from benchmarks.judge.peers import PEERS
from benchmarks.judge.scenarios import SCENARIOS

RESULT = Path(__file__).parents[1] / "results" / "judge.json"
PARTS = ("outcomes", "type-one", "silence", "cost")


def run(wanted: argparse.Namespace) -> dict[str, Any]:
    begin = time.monotonic()
    say = _progress if wanted.progress else _quiet
    chosen = [one for one in SCENARIOS if not wanted.scenario or one.name in wanted.scenario]
    before = json.loads(wanted.json.read_text("utf-8")) if wanted.keep else {}
    result: dict[str, Any] = {**before, "seed": wanted.seed, "bars": BARS}
    result["conditions"] = {**before.get("conditions", {}), **dict.fromkeys(wanted.parts, conditions())}
    if "outcomes" in wanted.parts:
        result["rates"] = {}
        numbers = wanted.runs if len(wanted.runs) > 1 else wanted.runs * len(wanted.rate)
        for rate, runs in zip(wanted.rate, numbers, strict=True):
            cells = outcomes.measured(rate, runs, chosen, wanted.seed, say)
            cells = beside(before, rate, runs, cells)
            rules = (PHOENIX, LITERAL, *PEERS)
            summaries = {rule: outcomes.summary(cells, rule) for rule in rules}
            result["rates"][f"{rate:g}"] = {"runs": runs, "summary": summaries, "scenarios": cells}
            _keep(wanted.json, result, begin)
    if "type-one" in wanted.parts:
        result["typeOne"] = type_one.measured(wanted.type_one_runs, wanted.looks, wanted.seed, say)
        _keep(wanted.json, result, begin)
    if "silence" in wanted.parts:
        result["silence"] = silence.measured(wanted.silent_streams, wanted.seed)
    if "cost" in wanted.parts:
        result["cost"] = cost.measured(wanted.repeats, wanted.seed)
    _keep(wanted.json, result, begin)
    return result


def beside(before: dict[str, Any], rate: float, runs: int, cells: outcomes.Cells) -> outcomes.Cells:
    """With what was measured of other scenarios in as many runs, in the order of the scenarios."""
    known = before.get("rates", {}).get(f"{rate:g}", {})
    every = {**known["scenarios"], **cells} if known.get("runs") == runs else cells
    return {one.name: every[one.name] for one in SCENARIOS if one.name in every}


def _keep(path: Path, result: dict[str, Any], begin: float) -> None:
    """After every part: what was measured is not lost with what was not."""
    result["minutesOfTheLastRun"] = round((time.monotonic() - begin) / 60.0, 1)
    result["held"] = held(result)
    write(path, result)


def _progress(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


def _quiet(_words: str) -> None:
    pass


def shown(result: dict[str, Any], *, each: bool) -> str:
    parts = []
    if "rates" in result:
        parts.append(report.overview(result))
        parts += [f"{rate}/s\n" + report.scenarios(result, rate) for rate in result["rates"] if each]
    if "typeOne" in result:
        parts.append(report.nulls(result))
    if "cost" in result and "silence" in result:
        parts.append(report.cost(result))
    return "\n\n".join([*parts, report.bars(result)])


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    options.add_argument("--rate", type=float, nargs="+", default=[500.0, 50.0, 5.0, 0.5], help="per second")
    options.add_argument(
        "--runs",
        type=int,
        nargs="+",
        default=[400],
        help="releases per scenario: one number, or one per rate",
    )
    options.add_argument("--scenario", nargs="+", choices=[one.name for one in SCENARIOS], default=[])
    options.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options.add_argument("--type-one-runs", type=int, default=20_000)
    options.add_argument("--looks", type=int, default=1_000)
    options.add_argument("--silent-streams", type=int, default=10_000)
    options.add_argument("--repeats", type=int, default=5, help="of the measurement of cost")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--each", action="store_true", help="show every scenario")
    options.add_argument("--progress", action="store_true", help="say on stderr what is done")
    options.add_argument("--json", type=Path, default=RESULT)
    options.add_argument("--keep", action="store_true", help="keep what the JSON has of other parts")
    options.add_argument("--page", action="store_true", help="only write the page from the JSON")
    wanted = options.parse_args()
    if wanted.page:
        page.write(wanted.json)
        return 0
    end_in_order()
    result = run(wanted)
    print(shown(result, each=wanted.each))
    return 0 if all(result["held"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())

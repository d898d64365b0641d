"""The page of the documentation that shows the figures: `python -m benchmarks.judge --page`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.judge import report
from benchmarks.judge.scenarios import SCENARIOS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "judge-benchmark.md"


def write(source: Path) -> None:
    PAGE.write_text(text(json.loads(source.read_text("utf-8"))), "utf-8")


def text(result: dict[str, Any]) -> str:
    numbers = ", ".join(f"{found['runs']} at {rate}/s" for rate, found in result["rates"].items())
    parts = [
        _HEAD.format(**result["conditions"]["outcomes"], seed=result["seed"], numbers=numbers),
        report.overview(result),
        _READING,
    ]
    for rate in result["rates"]:
        parts += [f"### {rate} requests per second", report.scenarios(result, rate)]
    parts += [_SCENARIOS, "\n".join(f"- `{one.name}` ({one.kind}): {one.says}" for one in SCENARIOS)]
    evidence = result["typeOne"]
    parts += [_EVIDENCE.format(**evidence), report.nulls(result), _measured(result, "type-one")]
    parts += [_COST.format(**result["conditions"]["cost"]), report.cost(result)]
    parts += [_bars(result, numbers), report.bars(result)]
    return "\n\n".join(parts) + "\n"


def _measured(result: dict[str, Any], part: str) -> str:
    """A part may have been measured in a run of its own; `note` says what changed since."""
    found = result["conditions"][part]
    words = f"Measured on {found['date']}, load average {found['loadAverageBefore']} at the start."
    return f"{words} {found['note']}" if "note" in found else words


def _bars(result: dict[str, Any], numbers: str) -> str:
    missed = [name for name, ok in result["held"].items() if not ok]
    but = f"; missed: {', '.join(f'`{name}`' for name in missed)}" if missed else ""
    every = len(result["held"])
    return _BARS.format(holding=every - len(missed), all=every, but=but, numbers=numbers)


_HEAD = """\
# The judge's benchmark

<!-- Written by `python -m benchmarks.judge --page` from benchmarks/results/judge.json. -->

How often a rule takes back a good release, and how often and how soon a bad one. The same simulated
releases are given to Phoenix's judge and to the rules of other tools as their source or paper states them.
Figures of {date}, {machine}, load average {loadAverageBefore} at the start, seed {seed}.
Releases per scenario: {numbers}. The standard error of one share p of n releases is sqrt(p(1-p)/n), of a mean
over seven scenarios near 1 % and 200 releases each 0.3 points.

`python -m benchmarks.judge` measures it anew.

## All rules, all rates"""

_READING = """\
How to read it. A **false rollback** takes back a version that is as good as stable; what is shown is the
mean over seven scenarios in which real services differ from a textbook. **Detection** is the share of bad
releases that were taken back after the fault began; a rollback before that found nothing. **Discrimination**
is detection minus the mean share of rollbacks over the healthy and outage scenarios: a rule that rolls
back everything, or nothing, has 0. **Blamed for an outage**: both versions were equally sick, and the new
one was said to be the cause. **Held**: no decision for an hour beyond the plan, so a person is asked.
**Failed requests**: to the canary until the decision, geometric mean over the scenarios about errors.
What is fast and finds everything has to be read together with its false rollbacks.

The rules: `phoenix` is the default gate; `phoenix-literal` the operations guide's point rule, as Phoenix
runs it with `gate: literal`; `flagger-default` has the ranges of its documentation (99 % success, a mean of
500 ms), `flagger-guide` the guide's limits, both a threshold of 5 and one check a minute; `argo-fl0` and
`argo-fl3` have the guide's limits and a failureLimit of 0 and 3; `kayenta` is Mann-Whitney every 10 min;
`netflix-seq` the sequential tests of Lindon et al.; `bayes-peek` a posterior of 95 %; `msprt` the normal
mixture test of A/B tools. Each is a file in `benchmarks/judge/peers` that names its source.

## Scenario by scenario

Rollbacks in per cent of releases; for bad releases the share found, and the median of the time from the
begin of the fault to the rollback."""

_COST = """\
## Cost, and streams without evidence

Processor time of `judge.step` alone, the best of fifteen (`--repeats 15`), with a Python {python} that
was built with profile-guided optimisation, as distributions build it; one without makes about a quarter
fewer. Load average {loadAverageBefore} at the start: other programs on the same cores slow it down. The
bar is about updates without the chart: the decision, its reason and its evidence at every look, and the
metrics' intervals only with a rollback (`detail=False`, as a replay asks). The second line is what a
running release does."""

_BARS = """\
## Bars

{holding} of {all} hold{but}. Releases per scenario: {numbers}; the standard errors are given above."""

_SCENARIOS = "### The scenarios"

_EVIDENCE = """\
## False evidence under continuous looking

For every test a world in which its null is just true, {runs:,} runs of {looks:,} looks each. The share of
runs in which the evidence ever reached 100 must be at most 1 %, that of 20 at most 5 % (Ville). A shown
95 % interval missed the truth at some look of a hundred in {intervalMissedPercent} % of 1,000 runs."""

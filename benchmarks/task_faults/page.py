"""The page docs/reference/tasks-benchmark.md from the JSON."""

from __future__ import annotations

from typing import Any

_TITLE = """# The benchmark of tasks

<!-- Written by `python -m benchmarks.tasks --page` from benchmarks/results/tasks.json. -->

How many tasks a second Phoenix takes and runs beside other engines, and what becomes of tasks and of slots of
a schedule when workers are killed. All on the embedded Valkey, which writes to its disk before it answers.
`python -m benchmarks.tasks` measures it anew.
"""


def page(found: dict[str, Any]) -> str:
    parts = [_TITLE]
    if "throughput" in found:
        parts.append(_throughput(found["throughput"]))
    if "slots" in found:
        parts.append(_slots(found["slots"]))
    if "lost" in found:
        parts.append(_lost(found["lost"]))
    names = {
        "shareOfBareEngine": f"at least {found['bars']['shareOfBareEngine']} of docket alone, "
        "when handed in, when run and in both steps",
        "noSlotTwice": "no slot is given twice, or run twice other than after a kill",
        "noSlotLost": "no slot is lost that is not counted as missed",
        "redelivery": f"redelivery under {found['bars']['redeliverySeconds']:g} s",
        "noTaskLost": "no task is lost",
    }
    rows = [(names[name], "yes" if held else "**no**") for name, held in found["held"].items()]
    parts.append("## Bars\n\n" + _table(("bar", "held"), rows))
    return "\n".join(parts)


def _throughput(found: dict[str, Any]) -> str:
    columns = ("enqueued", "drained", "both", "workerMicroseconds")
    rows = [
        (name, *(_rate(rates[column], found["best"][name][column]) for column in columns))
        for name, rates in found["tasksPerSecond"].items()
    ]
    head = ("engine", "handed in/s", "run/s", "both/s", "processor time of the worker for each, µs")
    text = f"""## Throughput

{found["tasks"]:,} tasks that do nothing, handed in by {found["callers"]} callers of one process (by one with
Celery), then run by one worker process with {found["slots"]} slots, timed from the first to the last.
All on the same server, which is emptied before each; the engines in turn, in each of
{found["rounds"]} rounds. Medians, and the best in brackets. {_when(found)}

{_table(head, rows)}
`docket` is pydocket with a look for free slots every 2 ms, and forgets a task at once; by its defaults,
250 ms and 10 slots, it runs 40 tasks a second at most. Phoenix keeps a record, a log and a lease for each.
"""
    if share := found.get("shareOfBareEngine"):
        text += f"""Of docket alone it reaches {share["enqueued"]} when tasks are handed in,
{share["drained"]} when they are run, {share["both"]} in both together (medians of the shares of each round).
"""
    return text + "What the others do not guarantee is in [ADR 0040](../adr/0040-durable-tasks.md).\n"


def _rate(median: float, best: float) -> str:
    return f"{median:,.0f} ({best:,.0f})"


def _slots(found: dict[str, Any]) -> str:
    redelivered = ", ".join(f"{seconds:g} s" for seconds in found["redeliverySeconds"])
    least, most = found["secondsBetweenKills"]
    rows = [
        ("slots that were due", f"{found['due']:,}"),
        ("workers killed", f"{found['kills']:,}"),
        ("slots that ran once", f"{found['ranOnce']:,}"),
        ("slots that ran twice, as a kill cut the first run off", f"{found['ranTwice']:,}"),
        ("missed and counted / skipped and counted", f"{found['missedAndCounted']:,} / {found['skipped']:,}"),
        ("given to two tasks", found["givenTwice"]),
        ("lost and not counted, or never run", found["lostUncounted"] + found["neverRan"]),
        ("runs that a kill cut off, which began again", found["workersDiedInTheMiddle"]),
        ("until a task ran again whose worker was killed", redelivered),
    ]
    return f"""## Slots

A schedule with a slot every second for {found["minutes"]:g} minutes, {found["workers"]} worker processes with
a lease of {found["leaseSeconds"]:g} s. Every {least:g} to {most:g} s one of those that have run a slot,
taken at random, is killed with SIGKILL and replaced, every second time while a slot is run.
{_when(found)}

{_table(("", ""), rows)}"""


def _lost(found: dict[str, Any]) -> str:
    rows = [
        ("tasks", f"{found['tasks']:,}"),
        ("workers killed", found["kills"]),
        ("never run", found["neverRan"]),
        ("not ended well", found["notSucceeded"]),
        ("run again, as a kill came before the word of it", found["ranAgainAfterAKill"]),
        ("seconds for all", f"{found['seconds']:,}"),
    ]
    return f"""## None lost

Tasks handed in while {found["workers"]} worker processes run them, one of which is killed with SIGKILL every
{found["secondsBetweenKills"][0]:g} to {found["secondsBetweenKills"][1]:g} s and replaced.
{_when(found)}

{_table(("", ""), rows)}"""


def _when(found: dict[str, Any]) -> str:
    return (
        f"Measured on {found['date']}, {found['machine']}, Python {found['python']}, "
        f"load average {found['loadAverageBefore']} at the start."
    )


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)

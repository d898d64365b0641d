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
        "shareOfBareEngine": f"at least {found['bars']['shareOfBareEngine']} of docket alone",
        "noSlotTwice": "no slot is run twice",
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
        (name, *(f"{rates[column]:,.0f}" for column in columns))
        for name, rates in found["tasksPerSecond"].items()
    ]
    head = ("engine", "handed in/s", "run/s", "both/s", "processor time of the worker for each, µs")
    return f"""## Throughput

{found["tasks"]:,} tasks that do nothing, handed in by 64 callers of one process (by one with Celery),
then run by one worker process with 16 slots, timed from the first to the last. Medians of
{found["rounds"]}, the engines in turn. {_when(found)}

{_table(head, rows)}
`docket` is pydocket with a look for free slots every 2 ms, and forgets a task at once; by its defaults,
250 ms and 10 slots, it runs 40 tasks a second at most. Phoenix keeps a record, a log and a lease for each,
in three scripts besides those of docket. In both steps together it reaches
{found["shareOfBareEngine"]} of docket alone.
What the others do not guarantee is in [ADR 0040](../adr/0040-durable-tasks.md).
"""


def _slots(found: dict[str, Any]) -> str:
    redelivered = ", ".join(f"{seconds:g} s" for seconds in found["redeliverySeconds"])
    rows = [
        ("slots that passed", f"{found['slots']:,}"),
        ("workers killed", f"{found['kills']:,}"),
        ("slots that ran", f"{found['runs']:,}"),
        ("counted as missed / as skipped", f"{found['missed']:,} / {found['skipped']:,}"),
        ("given to two tasks", found["givenTwice"]),
        ("lost and not counted, or never run", found["lostUncounted"] + found["neverRan"]),
        ("tasks cut off by a kill, which began again", found["workersDiedInTheMiddle"]),
        ("slots whose work was done twice, as a kill came before the word of it", found["ranTwice"]),
        ("until a task ran again whose worker was killed", redelivered),
    ]
    return f"""## Slots

A schedule with a slot every second for {found["minutes"]:g} minutes, {found["workers"]} worker processes with
a lease of {found["leaseSeconds"]:g} s; every 1 to 4 s one of them, taken at random, is killed with SIGKILL
and replaced.
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

Tasks handed in while {found["workers"]} worker processes run them, one of which is killed every 20 s.
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

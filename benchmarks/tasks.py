"""What Phoenix's tasks bear: throughput beside other engines, slots and tasks with workers that are killed.

    python -m benchmarks.tasks                                       # everything, about twenty minutes
    python -m benchmarks.tasks --parts slots --minutes 10            # one part anew, the others as they were
    python -m benchmarks.tasks --page                                # docs/reference/tasks-benchmark.md

All on the embedded Valkey, which writes to its disk before it answers. Each part has conditions of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.conditions import conditions, end_in_order, write
from benchmarks.task_engines.throughput import compared
from benchmarks.task_engines.worker import ENGINES
from benchmarks.task_faults.lost import lost
from benchmarks.task_faults.page import page
from benchmarks.task_faults.slots import slots

from phoenix_orch.runtime.valkey_server import ValkeyServer

PARTS = ("throughput", "slots", "lost")
BARS = {"shareOfBareEngine": 0.8, "redeliverySeconds": 30.0}
_ROOT = Path(__file__).parents[1]


async def part(name: str, wanted: argparse.Namespace) -> dict[str, Any]:
    """Measure one part, on a server of its own."""
    found = conditions()
    with tempfile.TemporaryDirectory() as directory:
        server = ValkeyServer(Path(directory) / "valkey")
        url = (await server.ensure()).url
        try:
            match name:
                case "throughput":
                    found |= await compared(url, wanted.engines, wanted.throughput_tasks, wanted.rounds)
                case "slots":
                    found |= await slots(url, Path(directory), wanted.minutes, wanted.seed)
                case _:
                    found |= await lost(url, Path(directory), wanted.tasks, wanted.seed)
        finally:
            await server.stop()
    return found


def held(found: dict[str, Any]) -> dict[str, bool]:
    """Which bars hold, of those that the parts in `found` are about."""
    result = {}
    share = found.get("throughput", {}).get("shareOfBareEngine")
    if share:
        least = min(share[what] for what in ("enqueued", "drained", "both"))
        result["shareOfBareEngine"] = least >= BARS["shareOfBareEngine"]
    if slot := found.get("slots"):
        again = max(0, slot["ranTwice"] - slot["workersDiedInTheMiddle"])  # beyond those that a kill cut off
        result["noSlotTwice"] = slot["givenTwice"] + again == 0
        result["noSlotLost"] = slot["neverRan"] + slot["lostUncounted"] + slot["notSucceeded"] == 0
        result["redelivery"] = max(slot["redeliverySeconds"]) < BARS["redeliverySeconds"]
    if tasks := found.get("lost"):
        result["noTaskLost"] = tasks["neverRan"] + tasks["notSucceeded"] == 0
    return result


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    options.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options.add_argument("--engines", nargs="+", choices=tuple(ENGINES), default=list(ENGINES))
    options.add_argument("--throughput-tasks", type=int, default=5000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--minutes", type=float, default=10.0, help="of the schedule with kills")
    options.add_argument("--tasks", type=int, default=100_000, help="none of which may be lost")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--page", action="store_true", help="write the page from the JSON, measure nothing")
    options.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "tasks.json")
    wanted = options.parse_args()
    if wanted.page:
        text = page(json.loads(wanted.json.read_text("utf-8")))
        (_ROOT / "docs" / "reference" / "tasks-benchmark.md").write_text(text, "utf-8")
        return 0
    end_in_order()
    found = json.loads(wanted.json.read_text("utf-8")) if wanted.json.exists() else {}
    for name in wanted.parts:
        found[name] = asyncio.run(part(name, wanted))
        found |= {"bars": BARS, "held": held(found)}
        write(wanted.json, found)
        print(name, json.dumps(found[name]), flush=True)
    print(found["held"])
    return 0 if all(found["held"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())

"""What the audit log costs: durable appends with 1 and 16 callers, and a walk over 100,000 records.

    python -m benchmarks.audit --json benchmarks/results/audit.json

Beside it what the bare disk does: lines of the same length, each appended and synced, nothing else.
Callers share one event loop and one recorder, as the orchestrator's do; an append counts when it is on the
disk. Give `--directory` to measure another disk than that of temporary files.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.conditions import conditions, end_in_order, write

from phoenix_orch.security.audit_chain import GENESIS, Entry, encoded
from phoenix_orch.security.audit_log import AuditLog
from phoenix_orch.security.recorder import Recorder

RECORDS = 100_000
CALLERS = (1, 16)
ROUNDS = 20
"""Of one caller and the bare disk in turn."""
BARS = {"appendsPerSecond": 1000.0, "verifySeconds": 2.0}


async def appends(directory: Path, callers: int, seconds: float) -> float:
    """Records a second."""
    recorder, count = Recorder(AuditLog(directory)), 0
    begun = time.perf_counter()
    end = begun + seconds

    async def caller() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await recorder.record(
                "rollout.abort",
                "rollout/shop",
                actor="ann",
                reason="errors 3.1% are above the limit of 0.1%",
                before={"state": "Progressing", "weight": 20},
                after={"state": "RollingBack", "weight": 0},
            )
            count += 1

    await asyncio.gather(*(caller() for _ in range(callers)))
    return round(count / (time.perf_counter() - begun), 1)


def bare(file: Path, seconds: float) -> float:
    """Lines a second that the disk takes, each with `fdatasync`."""
    line, _ = encoded(_entry(), GENESIS)
    descriptor, count = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 0
    begun = time.perf_counter()
    try:
        while time.perf_counter() < begun + seconds:
            os.write(descriptor, line)
            os.fdatasync(descriptor)
            count += 1
        return round(count / (time.perf_counter() - begun), 1)
    finally:
        os.close(descriptor)


def verified(directory: Path) -> float:
    """Seconds to verify `RECORDS` records; the quickest of three."""
    log = AuditLog(directory)
    for _ in range(RECORDS // 1000):
        log.append([_entry()] * 1000)
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        found = log.verify()
        times.append(time.perf_counter() - begun)
        assert found.faults == ()
        assert found.records == RECORDS
    return round(min(times), 3)


def _entry() -> Entry:
    return Entry(
        at=datetime.now(UTC),
        actor="ann",
        action="rollout.abort",
        target="rollout/shop",
        reason="errors 3.1% are above the limit of 0.1%",
        before={"state": "Progressing", "weight": 20},
        after={"state": "RollingBack", "weight": 0},
        outcome="done",
    )


def run(root: Path, seconds: float) -> dict[str, Any]:
    one, disk = beside_the_disk(root, seconds)
    rates = {"1": round(statistics.median(one), 1)}
    rates |= {str(n): asyncio.run(appends(root / f"append-{n}", n, seconds)) for n in CALLERS[1:]}
    ratio = statistics.median(ours / bare for ours, bare in zip(one, disk, strict=True))
    result = {
        **conditions(),
        "bars": BARS,
        "appendsPerSecond": rates,
        "bareSyncsPerSecond": round(statistics.median(disk), 1),
        "oneCallerToBare": round(ratio, 2),
        "verifySeconds": verified(root / "verify"),
        "verifyRecords": RECORDS,
    }
    result["held"] = {
        "oneCaller": rates["1"] >= BARS["appendsPerSecond"],
        "appends": rates[str(CALLERS[-1])] >= BARS["appendsPerSecond"],
        "verify": result["verifySeconds"] < BARS["verifySeconds"],
    }
    return result


def beside_the_disk(root: Path, seconds: float) -> tuple[list[float], list[float]]:
    """Records a second of one caller, and lines that the bare disk took just then, `ROUNDS` times in turn: a
    disk that others use is ten times as quick in one second as in the next."""
    one, disk = [], []
    for _ in range(ROUNDS):
        one.append(asyncio.run(appends(root / "one", CALLERS[0], seconds / ROUNDS)))
        disk.append(bare(root / "bare", seconds / ROUNDS))
    return one, disk


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--directory", type=Path)
    options.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "audit.json")
    wanted = options.parse_args()
    end_in_order()
    with tempfile.TemporaryDirectory(dir=wanted.directory) as root:
        result = run(Path(root), wanted.seconds)
    write(wanted.json, result)
    print(result["appendsPerSecond"], result["bareSyncsPerSecond"], result["verifySeconds"], result["held"])
    return 0 if all(result["held"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())

"""How often does the demo end otherwise than it should? Each release many times, each on a fresh Phoenix.

    .venv/bin/python benchmarks/demo_outcomes.py --runs 20 --out benchmarks/demo_outcomes.json

Every run is written as soon as it ended, and a run that is in the file already is not done again, so
that the benchmark can be interrupted and continued. Exit status 1 when any outcome was wrong.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from phoenix_orch.demo.run import run_demo
from phoenix_orch.demo.scenario import DEFAULT_RATE, DEFAULT_SPEED, RELEASES
from phoenix_orch.kernel.errors import PhoenixError

INTERRUPTED = 128


def main(arguments: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    options.add_argument("--runs", type=int, default=20, help="of each release")
    options.add_argument("--speed", type=float, default=DEFAULT_SPEED)
    options.add_argument("--rate", type=float, default=DEFAULT_RATE, help="requests per second")
    options.add_argument("--only", default=",".join(release.name for release in RELEASES))
    options.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    wanted = options.parse_args(arguments)
    results = read(wanted.out, wanted.speed, wanted.rate)
    names = wanted.only.split(",")
    for number in range(wanted.runs):  # one of each in turn, so that a part of the runs is fair to all
        for name in names:
            runs = results["releases"].setdefault(name, {"each": []})["each"]
            if len(runs) > number:
                continue
            run = play(name, wanted.speed, wanted.rate)
            if run is None:
                return 1
            runs.append(run)
            write(wanted.out, results)
            said = "as expected" if not run["faults"] else f"WRONG: {'; '.join(run['faults'])}"
            print(
                f"{name} {number + 1}/{wanted.runs}: {run['outcome']} in {run['seconds']} s, {said}",
                flush=True,
            )
    return 1 if any(release["wrong"] for release in results["releases"].values()) else 0


def play(name: str, speed: float, rate: float) -> dict[str, Any] | None:
    """One release on a fresh Phoenix. None when it was interrupted."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        output = io.StringIO()
        try:
            status = run_demo(
                speed=speed,
                rate=rate,
                releases=[name],
                plain=True,
                report_json=report,
                console=Console(file=output, width=200),
            )
        except PhoenixError as error:
            return {"outcome": None, "faults": [str(error)], "seconds": 0.0, "log": output.getvalue()}
        if status > INTERRUPTED:
            return None
        (story,) = json.loads(report.read_text())["releases"]
    cause = (story["history"] or {}).get("cause") or {}
    run = {
        "outcome": story["outcome"],
        "faults": story["faults"],
        "seconds": story["seconds"],
        "trigger": cause.get("trigger"),
        "guideSecondsToRollback": story["guideSecondsToRollback"],
        "canaryRequests": story["canaryRequests"],
        "canaryErrors": story["canaryErrors"],
        "usersSent": story["users"]["sent"],
        "usersFailed": story["users"]["failed"],
    }
    return run if not story["faults"] else {**run, "log": output.getvalue()}


def read(path: Path, speed: float, rate: float) -> dict[str, Any]:
    """What was measured before under the same conditions."""
    fresh: dict[str, Any] = {
        "speed": speed,
        "rate": rate,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "releases": {},
    }
    if not path.exists():
        return fresh
    found: dict[str, Any] = json.loads(path.read_text())
    same = all(found.get(key) == fresh[key] for key in ("speed", "rate", "machine", "python"))
    if not same:
        sys.exit(f"{path} was measured under other conditions; remove it, or give another --out")
    return found


def write(path: Path, results: dict[str, Any]) -> None:
    for release in results["releases"].values():
        runs = release["each"]
        seconds = sorted(run["seconds"] for run in runs)
        failed = sorted(run.get("usersFailed", 0) for run in runs)
        release |= {
            "runs": len(runs),
            "wrong": sum(bool(run["faults"]) for run in runs),
            "durations": {
                "min": seconds[0],
                "median": round(statistics.median(seconds), 3),
                "max": seconds[-1],
            },
            "usersFailed": {"median": statistics.median(failed), "max": failed[-1]},
        }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(results, indent=2) + "\n")
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())

"""What Phoenix costs: the command line, the start, and memory over an hour of compressed releases.

    python -m benchmarks.footprint --minutes 60 --json benchmarks/results/footprint.json

Three services behind one router, the first of them under load; a release of one after another, good and
bad in turn, without a pause. Memory is that of the Phoenix process (resident, and unique to it), read
every ten seconds. Its slope is a least-squares line over the samples after the first quarter and after as
many releases as are kept: what is bounded by number has filled up then, however slow the machine is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from benchmarks.conditions import conditions, end_in_order, write
from tests.faults.story import Story, until

from phoenix_orch.client import Client
from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.rollout.status import RESTING, State
from phoenix_orch.rollout.store.store import RELEASES_KEPT

SERVICES = ("web", "api", "jobs")
SAMPLE_SECONDS = 10.0
HELP_RUNS = 10
READY_RUNS = 5
RATE = 100.0
SPEED = 60.0
MIB = 1 << 20
BARS = {"helpMs": 300.0, "readySeconds": 5.0, "memoryMiB": 150.0}
FLAT = 1.0
"""MiB in an hour that still count as flat."""


class Sample(NamedTuple):
    """`at`: seconds since the start; memory in MiB; `releases` that were started until then."""

    at: float
    rss: float
    uss: float
    releases: int


def help_times() -> list[float]:
    """Milliseconds of `phoenix --help`, as a person starts it."""
    program = Path(sys.executable).with_name("phoenix")
    found = []
    for _ in range(HELP_RUNS):
        begun = time.perf_counter()
        subprocess.run([program, "--help"], capture_output=True, check=True)
        found.append(round(1000 * (time.perf_counter() - begun), 1))
    return found


def settings() -> dict[str, Any]:
    """Of the story: three services, and limits that a busy machine does not break."""
    return {"services": SERVICES}


def ready_times() -> list[float]:
    """Seconds from the start of `phoenix up` until the API answers and all instances are ready."""
    found = []
    for _ in range(READY_RUNS):
        with Story(settings=settings(), speed=SPEED, rate=1.0) as story:
            story.stop()
            subprocess.run(story.command("down", "--data-dir", str(story.data)), check=True)
            begun = time.perf_counter()
            story.phoenix = story.start()
            until("all is ready", lambda story=story: all_ready(story.client))  # type: ignore[misc]
            found.append(round(time.perf_counter() - begun, 2))
    return found


def all_ready(client: Client) -> bool:
    try:
        services = client.services()
    except PhoenixError:
        return False
    return len(services) == len(SERVICES) and all(one.ready >= one.replicas for one in services)


def over_time(minutes: float) -> dict[str, Any]:
    """Release without end, and look at the memory."""
    samples: list[Sample] = []
    with Story(settings=settings(), speed=SPEED, rate=RATE) as story:
        process = psutil.Process(story.phoenix.pid)
        until("all is ready", lambda: all_ready(story.client))
        begun, releases, number = time.monotonic(), 0, 1
        while (now := time.monotonic() - begun) < 60 * minutes:
            if not samples or now - samples[-1][0] >= SAMPLE_SECONDS:
                memory = process.memory_full_info()
                samples.append(Sample(now, memory.rss / MIB, memory.uss / MIB, releases))
            if resting(story.client):
                # Without load of its own a service gives no evidence (R1): only the first one moves.
                fault = "" if releases % 3 else "errors:0.5"
                number += 1
                story.client.start(SERVICES[0], version=str(number), env={"SHOP_FAULT": fault})
                releases += 1
            time.sleep(0.25)
        failed = sum(failure.status != 500 for failure in story.users.failures_since(0.0))
    return figures(samples, minutes, releases, failed)


def resting(client: Client) -> bool:
    try:
        status = client.rollout(SERVICES[0]).rollout.status
    except PhoenixError:
        return False
    return status.state in RESTING or status.state is State.IDLE


def figures(samples: list[Sample], minutes: float, releases: int, failed: int) -> dict[str, Any]:
    """Growth is told from where what is kept by number has reached it, and at least a quarter is over."""
    settled = [one for one in samples if one.at >= 15 * minutes and one.releases >= RELEASES_KEPT]
    return {
        "minutes": minutes,
        "releases": releases,
        "requestsFailedOtherThanByABadVersion": failed,
        "rssMiB": summary([one.rss for one in samples]),
        "ussMiB": summary([one.uss for one in samples]),
        "slopeMiBPerHour": {
            "fromMinute": round(settled[0].at / 60, 1) if settled else None,
            "rss": slope([(one.at, one.rss) for one in settled]),
            "uss": slope([(one.at, one.uss) for one in settled]),
        },
        "samples": [
            [round(at), round(rss, 2), round(uss, 2), releases] for at, rss, uss, releases in samples
        ],
    }


def slope(points: list[tuple[float, float]]) -> float | None:
    """MiB per hour; None for too few points."""
    if len(points) < 3:
        return None
    line = statistics.linear_regression([at for at, _ in points], [value for _, value in points])
    return round(3600 * line.slope, 2)


def summary(values: list[float]) -> dict[str, float]:
    return {
        "min": round(min(values), 2),
        "median": round(statistics.median(values), 2),
        "max": round(max(values), 2),
    }


def run(minutes: float) -> dict[str, Any]:
    result = {
        **conditions(),
        "bars": BARS,
        "helpMs": {**summary(times := help_times()), "each": times},
        "readySeconds": {**summary(ready := ready_times()), "each": ready},
        "memory": over_time(minutes),
    }
    result["held"] = {
        "help": result["helpMs"]["median"] < BARS["helpMs"],
        "ready": result["readySeconds"]["max"] < BARS["readySeconds"],
        "memory": result["memory"]["rssMiB"]["max"] < BARS["memoryMiB"],
        "flat": (growth := result["memory"]["slopeMiBPerHour"]["uss"]) is not None and growth < FLAT,
    }
    return result


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    options.add_argument("--minutes", type=float, default=60.0)
    options.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "footprint.json")
    wanted = options.parse_args()
    end_in_order()
    result = run(wanted.minutes)
    write(wanted.json, result)
    print(json.dumps({key: value for key, value in result.items() if key != "memory"}, indent=1))
    print(json.dumps({k: v for k, v in result["memory"].items() if k != "samples"}, indent=1))
    return 0 if all(result["held"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())

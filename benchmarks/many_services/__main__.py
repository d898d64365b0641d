"""How many services one machine bears: Phoenix with 120 healthy ones, left alone.

    python -m benchmarks.many_services --services 120 --seconds 60

Each service is one instance of the lightest server there is (`server.py`), with a route and a rollout of its
own and the usual health check: every second, a second's patience, three failures. Nothing is released and
nothing is wrong, so that every replacement is an error of Phoenix. Two other programs for each core take all
the processor they get, in sessions of their own as programs of other people are. Counted from the moment that
all services serve, or after four minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

import psutil
from benchmarks.conditions import conditions, end_in_order, write
from tests.faults.story import NAME, Story, configuration
from tests.faults.story_users import Users

from phoenix_orch.client import Client
from phoenix_orch.kernel.errors import PhoenixError

HERE = Path(__file__).parent
START_LIMIT = 240.0
"""Seconds to wait until everybody is ready."""
LOOK = 1.0
RATE = 20.0
"""Requests per second to the first service."""
BARS = {"replacements": 0, "usersFailed": 0, "lagP99Seconds": 0.5, "socketsGrown": 50}


class Many(Story):
    """One that waits for nobody: whether all come to be ready is what is measured."""

    def __enter__(self) -> Self:
        self.data = self.outside = self.directory / "d"
        self.file = self.directory / "phoenix.yaml"
        self.file.write_text(json.dumps(configuration(self.port, **self.settings)), encoding="utf-8")
        self.phoenix = self.start()
        self.client = self._stack.enter_context(Client(self.outside, timeout=5.0))
        return self

    def served(self, names: Sequence[str]) -> bool:
        """Ask one service after another through the router; whether all of them answered."""
        return all(self._asked_for(name) for name in names)

    def _asked_for(self, name: str) -> bool:
        path = "" if name == NAME else name
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def visit(self) -> None:
        """Users come, to the first service."""
        self.users = self._stack.enter_context(Users(self.port, self.rate))


@contextlib.contextmanager
def others(count: int) -> Iterator[None]:
    """So many programs that take all the processor they get."""
    line = [sys.executable, "-I", "-S", "-c", "while True: pass"]
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.callback(subprocess.Popen(line, start_new_session=True).kill)
        yield


def names(count: int) -> tuple[str, ...]:
    return (NAME, *(f"s{number:03d}" for number in range(1, count)))


def settings(count: int) -> dict[str, Any]:
    """Of the story: `count` services of one instance, and the rollout as it is without a word."""
    command = [sys.executable, "-I", "-S", str(HERE / "server.py"), "{port}"]
    return {
        "services": names(count),
        "service": {"command": command, "replicas": 1},
        "rollout": {"evidence": {"interval": "10s", "window": "1m"}},
    }


def records(story: Story) -> list[dict[str, Any]]:
    """What the supervisor publishes of each service."""
    found = []
    for path in story.data.glob("services/*/instances.json"):
        with contextlib.suppress(OSError, ValueError):
            found.append(json.loads(path.read_bytes())["state"])
    return found


def ready(story: Story) -> int:
    return sum(one["state"] == "ready" for state in records(story) for one in state["instances"])


def exits(story: Story) -> Counter[str]:
    """Unexpected ends so far, by reason."""
    return Counter(end["reason"] for state in records(story) for end in state["exits"])


def until_served(story: Many, count: int) -> tuple[float, float | None]:
    """Seconds from the start of Phoenix until all instances were ready, and until users reached all."""
    began = psutil.Process(story.phoenix.pid).create_time()
    took = 0.0
    while (since := time.time() - began) < START_LIMIT:
        took = took or (since if ready(story) >= count else 0.0)
        if took and story.served(names(count)):
            return round(took, 1), round(time.time() - began, 1)
        time.sleep(LOOK / 4)
    return round(took, 1), None


def programs(story: Story) -> dict[str, psutil.Process]:
    return {
        "phoenix": psutil.Process(story.phoenix.pid),
        "router": psutil.Process(story.router_pid()),
        "store": psutil.Process(story.valkey_pid()),
    }


def cpu(found: dict[str, psutil.Process]) -> dict[str, float]:
    """Seconds of processor time so far."""
    times = {name: process.cpu_times() for name, process in found.items()}
    return {name: one.user + one.system for name, one in times.items()}


def asked(call: Callable[[], object]) -> float | None:
    """Seconds until the API answered; None when it did not."""
    began = time.perf_counter()
    try:
        call()
    except PhoenixError:
        return None
    return time.perf_counter() - began


def watch(story: Story, count: int, seconds: float) -> dict[str, Any]:
    """Look on for so long."""
    found = programs(story)
    phoenix = found["phoenix"]
    before, ends, began = cpu(found), exits(story), time.time()
    answers: list[float | None] = []
    sockets: list[int] = []
    fewest = count
    while time.time() - began < seconds:
        answers.append(asked(story.client.health))
        sockets.append(len(phoenix.net_connections("all")))
        fewest = min(fewest, ready(story))
        time.sleep(LOOK)
    lasted = time.time() - began
    after, lags = cpu(found), lateness(story.directory / "lag", began)
    told = [answer for answer in answers if answer is not None]
    return {
        "seconds": round(lasted, 1),
        "replacements": dict(exits(story) - ends),
        "fewestReady": fewest,
        "usersFailed": len(story.users.failures_since(began)),
        "cpuShare": {name: round((after[name] - before[name]) / lasted, 3) for name in found},
        "machineBusy": round(psutil.getloadavg()[0], 1),
        "memoryMiB": round(phoenix.memory_info().rss / (1 << 20), 1),
        "lagSeconds": spread(lags),
        "apiSeconds": {**spread(told), "unanswered": len(answers) - len(told)},
        "sockets": {"first": sockets[0], "last": sockets[-1], "max": max(sockets)},
        "descriptors": phoenix.num_fds(),
    }


def lateness(path: Path, since: float) -> list[float]:
    pairs = [line.split() for line in path.read_text("ascii").splitlines()]
    return [float(pair[1]) for pair in pairs if len(pair) == 2 and float(pair[0]) >= since]


def spread(values: list[float]) -> dict[str, float | None]:
    if len(values) < 2:
        return {"p50": None, "p99": None, "max": None}
    parts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": round(parts[49], 4), "p99": round(parts[98], 4), "max": round(max(values), 4)}


def run(count: int, seconds: float, busy: int) -> dict[str, Any]:
    story = Many(settings=settings(count), speed=1.0, rate=RATE)
    story.wrapper = (sys.executable, "-P", str(HERE / "phoenix.py"), str(story.directory / "lag"))
    result = {**conditions(), "bars": BARS, "services": count, "otherProgramsAtWork": busy}
    with others(busy), story:
        took, served = until_served(story, count)
        result |= {"readySeconds": took, "servedSeconds": served, "exitsAtStart": dict(exits(story))}
        story.visit()
        result["watched"] = watch(story, count, seconds)
        began = time.monotonic()
        result["exitStatus"] = story.stop()
        result["stopSeconds"] = round(time.monotonic() - began, 1)
    watched = result["watched"]
    grown = watched["sockets"]["last"] - watched["sockets"]["first"]
    result["held"] = {
        "ready": served is not None and not result["exitsAtStart"],
        "replacements": not watched["replacements"],
        "users": watched["usersFailed"] <= BARS["usersFailed"],
        "lag": (watched["lagSeconds"]["p99"] or 1e9) <= BARS["lagP99Seconds"],
        "sockets": grown <= BARS["socketsGrown"],
    }
    return result


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    options.add_argument("--services", type=int, default=120)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--busy", type=int, default=2 * (os.cpu_count() or 1), help="other programs at work")
    default = HERE.parent / "results" / "many_services.json"
    options.add_argument("--json", type=Path, default=default)
    wanted = options.parse_args()
    end_in_order()
    result = run(wanted.services, wanted.seconds, wanted.busy)
    write(wanted.json, result)
    print(json.dumps(result, indent=1))
    return 0 if all(result["held"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())

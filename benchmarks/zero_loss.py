"""Does a user ever see the machinery, and how soon is a bad release without traffic?

    python -m benchmarks.zero_loss --json benchmarks/results/zero_loss.json

Users send open load on kept-alive connections from a process of their own. 1. Good releases, one after
another: every weight change and promotion seen on the data plane is counted, and every failed request.
2. Releases that are taken back: requests that failed and were not failed by the bad version itself
(status 500; the router and the network never answer so). 3. Reaction times, each from the moment that
Phoenix could know it to the moment that the router itself was seen to send the canary nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.conditions import conditions, end_in_order, write
from tests.faults.story import NAME, Story, until

from phoenix_orch.demo.users import Users, read_line
from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.rollout.status import State
from phoenix_orch.rollout.store.valkey import ValkeyStore
from phoenix_orch.traffic.traefik_api import running, seen

SPEED = 30.0
BARS = {"failed": 0, "crashLoopSeconds": 3.0, "checkSeconds": 3.0, "verdictSeconds": 1.0}
_LOOK = 0.01


@dataclass
class Watch:
    """Looks at the data plane a hundred times a second, from a thread of its own."""

    story: Story
    changes: list[tuple[float, int, str | None]] = field(default_factory=list)
    """(moment, canary weight, stable revision), whenever one of the two is another than before."""
    condemned: dict[str, datetime] = field(default_factory=dict)
    """When the first rollback verdict on a revision was given, in time of the rollout."""
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def looking(self) -> Iterator[Watch]:
        thread = threading.Thread(target=lambda: asyncio.run(self._look()), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join(10.0)

    async def _look(self) -> None:
        socket = json.loads((self.story.outside / "valkey" / "valkey.json").read_bytes())["socket"]
        store = ValkeyStore(f"unix://{quote(socket)}")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._look_at_the_data_plane())
                group.create_task(self._look_at_verdicts(store))
        finally:
            await store.close()

    async def _look_at_the_data_plane(self) -> None:
        while not self._stop.is_set():
            info = running(self.story.outside / "router")
            if info is not None:
                now = (await seen(info.admin, (NAME,)))[NAME]
                before = self.changes[-1][1:] if self.changes else None
                if now.weight is not None and (now.weight, now.stable_revision) != before:
                    self.changes.append((time.time(), now.weight, now.stable_revision))
            await asyncio.sleep(_LOOK)

    async def _look_at_verdicts(self, store: ValkeyStore) -> None:
        while not self._stop.is_set():
            found = await store.verdict(NAME)
            if found is not None and found[0].kind is VerdictKind.ROLLBACK:
                self.condemned.setdefault(found[0].revision, found[0].at)
            await asyncio.sleep(_LOOK)

    def zero_after(self, moment: float) -> float | None:
        """Seconds from `moment` until the canary was seen to get nothing; negative: it already did."""
        last = next((at for at, weight, _ in reversed(self.changes) if weight == 0), None)
        return None if last is None or self.changes[-1][1] != 0 else last - moment


class Load:
    """The load of the demo as a process; totals as it tells them."""

    def __init__(self, port: int, rate: float) -> None:
        line = [sys.executable, "-P", "-m", "phoenix_orch.demo.load", "--port", str(port)]
        self._process = subprocess.Popen(
            [*line, "--rate", f"{rate:g}", "--seconds", "36000"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.total = Users()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.total = read_line(line) or self.total

    def settled(self) -> Users:
        """Totals that hold everything up to now."""
        now = time.time()
        return until("the load tells", lambda: self.total if self.total.at > now + 0.1 else None)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


class Judge:
    """The other end of a custom check: answers 200 until told otherwise, and keeps the moments."""

    def __init__(self) -> None:
        self.bad = False
        self.refusals: list[float] = []
        judge = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if judge.bad:
                    judge.refusals.append(time.time())
                self.send_response(503 if judge.bad else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:  # type: ignore[override]
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"


def staircase() -> list[dict[str, Any]]:
    """Five weight changes of 20 points each."""
    limits = {"errorRate": "5%", "latencyP95": "2s"}
    return [{"name": "walk", "step": 20, "every": "30s", "limits": limits}]


def good_releases(load: Load, story: Story, watch: Watch, changes: int, promotions: int) -> dict[str, Any]:
    before, first, done, tried = load.settled(), len(watch.changes), 0, 0
    begun = time.monotonic()
    while done < promotions or counted(watch, first)["weightChanges"] < changes:
        version = story.begin()
        tried += 1
        done += story.ending(version).state == State.PROMOTED.value
        assert tried < 2 * promotions, "releases are taken back that are good"
    users = load.settled().since(before)
    return {
        **counted(watch, first),
        "promotions": done,
        "releasesTakenBack": tried - done,
        "requestsPerSecond": round(users.answered / (time.monotonic() - begun)),
        "requests": users.sent,
        "failed": users.failed,
        "byStatus": users.by_status,
    }


def counted(watch: Watch, first: int) -> dict[str, int]:
    weights = [weight for _, weight, _ in watch.changes[max(0, first - 1) :]]
    return {"weightChanges": sum(a != b for a, b in pairwise(weights))}


def taken_back(
    load: Load,
    story: Story,
    runs: int,
    fault: str,
    moment: Callable[[], Any],
) -> dict[str, Any]:
    """Releases that have to be rolled back; times from what `moment` tells to weight 0 seen."""
    before, times = load.settled(), list[Any]()
    for _ in range(runs):
        version = story.begin(fault)
        times.append(moment())
        ending = story.ending(version)
        assert ending.state == State.ROLLED_BACK.value, ending
    users = load.settled().since(before)
    return {
        "runs": runs,
        "requests": users.sent,
        "failedByTheBadVersion": users.by_status.get("500", 0),
        "failedOtherwise": users.failed - users.by_status.get("500", 0),
        "byStatus": users.by_status,
        "times": times,
    }


def crash_moments(story: Story, watch: Watch) -> tuple[float, float]:
    """Seconds to weight 0 with the latch: from the first exit, and from the one that makes it a loop."""
    view = until("two exits", lambda: exits_and_latch(story))
    exits = [one.at.timestamp() for one in view]
    zero = until("weight 0", lambda: watch.zero_after(0.0))
    # Weight 0 without the latch does not count: the only canary instance is gone after every exit.
    zero = max(zero, view_latched(story))
    return round(zero - exits[0], 3), round(zero - exits[1], 3)


def exits_and_latch(story: Story) -> Any:
    view = story.view()
    if view is None or view.workload is None or view.traffic is None:
        return None
    canary = view.rollout.status.canary or (view.rollout.status.cause and view.rollout.status.cause.revision)
    exits = [one for one in view.workload.exits if one.revision == canary]
    return exits if len(exits) >= 2 and canary in view.traffic.aborted else None


def view_latched(story: Story) -> float:
    """When the traffic object was last written, asked as soon as the latch was seen."""
    return (story.outside / "router" / "dynamic" / "routes.yaml").stat().st_mtime


def verdict_moment(story: Story, watch: Watch) -> float:
    """From the moment the verdict was given, which is before it was published."""
    epoch = datetime.fromisoformat(json.loads((story.data / "clock.json").read_bytes())["epoch"])

    revision = story.client.rollout(NAME).rollout.target
    given = until("a rollback verdict", lambda: watch.condemned.get(revision))
    return round(
        until("weight 0", lambda: watch.zero_after((epoch + (given - epoch) / SPEED).timestamp())), 3
    )


def check_moment(judge: Judge, story: Story, watch: Watch, threshold: int) -> float:
    """From the refusal that reaches the threshold."""
    story.until_view("20 %", lambda view: view.seen is not None and (view.seen.weight or 0) > 0)
    judge.refusals.clear()
    judge.bad = True
    until("the threshold", lambda: len(judge.refusals) >= threshold)
    zero = until("weight 0", lambda: watch.zero_after(judge.refusals[threshold - 1]))
    judge.bad = False
    return round(zero, 3)


def spread(times: list[float]) -> dict[str, Any]:
    return {
        "min": min(times),
        "median": round(statistics.median(times), 3),
        "max": max(times),
        "each": times,
    }


def run(rate: float, runs: int, changes: int, promotions: int) -> dict[str, Any]:
    judge, threshold = Judge(), 3
    check = {"name": "judge", "http": {"url": judge.url}, "interval": "6s", "threshold": threshold}
    rollout = {
        "phases": staircase(),
        "checks": [check],
        # Attempts at a dead canary are errors: with less evidence a verdict would be first in a crash loop.
        "evidence": {"interval": "5s", "window": "1m"},
    }
    # The statistical gate convicts a version by its first crash, before there is a loop to be measured.
    settings = {"rollout": rollout, "policy": {"gate": "literal", "minRequests": round(0.3 * rate)}}
    with Story(settings=settings, speed=SPEED, rate=1.0) as story, Watch(story).looking() as watch:
        load = Load(story.port, rate)
        try:
            until("users are served", lambda: load.total.answered)
            good = good_releases(load, story, watch, changes, promotions)
            crash = taken_back(load, story, runs, "crash:8", lambda: crash_moments(story, watch))
            verdict = taken_back(load, story, runs, "errors:0.5", lambda: verdict_moment(story, watch))
            checked = taken_back(load, story, runs, "", lambda: check_moment(judge, story, watch, threshold))
        finally:
            load.stop()
            judge.server.shutdown()
    firsts, loops = zip(*crash.pop("times"), strict=True)
    result = {
        **conditions(),
        "rate": rate,
        "bars": BARS,
        "goodReleases": good,
        "rollbacks": {
            # A program that crashes takes the requests with it that it was working on (status 502).
            "crash": crash,
            "errors": {key: value for key, value in verdict.items() if key != "times"},
            "check": {key: value for key, value in checked.items() if key != "times"},
        },
        "secondsToWeight0": {
            "crashLoopFromItsExit": spread(list(loops)),
            "crashLoopFromTheFirstExit": spread(list(firsts)),
            "checkFromItsThreshold": spread(checked["times"]),
            "verdict": spread(verdict["times"]),
        },
    }
    seconds = result["secondsToWeight0"]
    result["held"] = {
        "changes": good["failed"] == 0
        and good["weightChanges"] >= changes
        and good["promotions"] >= promotions,
        "rollbacks": verdict["failedOtherwise"] == 0 and checked["failedOtherwise"] == 0,
        "crashLoop": seconds["crashLoopFromTheFirstExit"]["max"] < BARS["crashLoopSeconds"],
        "check": seconds["checkFromItsThreshold"]["max"] < BARS["checkSeconds"],
        "verdict": seconds["verdict"]["max"] < BARS["verdictSeconds"],
    }
    return result


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    options.add_argument("--rate", type=float, default=500.0, help="requests per second")
    options.add_argument("--runs", type=int, default=10, help="of each kind of rollback")
    options.add_argument("--changes", type=int, default=50)
    options.add_argument("--promotions", type=int, default=10)
    options.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "zero_loss.json")
    wanted = options.parse_args()
    end_in_order()
    result = run(wanted.rate, wanted.runs, wanted.changes, wanted.promotions)
    write(wanted.json, result)
    print(json.dumps(result, indent=1))
    return 0 if all(result["held"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())

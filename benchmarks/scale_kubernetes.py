"""Phoenix in a cluster with thousands of Rollouts: what they cost at rest, and how soon a verdict is obeyed.

    python -m benchmarks.scale_kubernetes                      # 1,000 and 10,000; about half an hour
    python -m benchmarks.scale_kubernetes --sizes 200 --active 20 --seconds 20 --json /tmp/scale.json

The three processes run as in a cluster, each with the rights of `k8s/base`, against a control plane of our
own, a Prometheus and a Valkey. Measured at rest, with `--active` releases under way, and when all of their
canaries begin to fail at once. Requests are those of the API server's audit log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from benchmarks.conditions import conditions, end_in_order, write
from benchmarks.scale import world
from benchmarks.scale.traffic import Traffic, measured
from benchmarks.scale.world import FIRST, NAMESPACE, name_of
from tests.cluster import rollouts, serving
from tests.cluster.plane import ControlPlane
from tests.cluster.serving import ACCOUNTS, COMPONENTS, Phoenix

from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.reflector import Reflector
from phoenix_orch.kube.resources import INGRESSES, ROLLOUTS, Key
from phoenix_orch.rollout.passes import SHARE
from phoenix_orch.runtime.valkey_server import ValkeyServer

RESULT = Path(__file__).parent / "results/scale_kubernetes.json"
WEIGHT = "nginx.ingress.kubernetes.io/canary-weight"
PATIENCE = 900.0
FIRST_LOOK = 1.2 * SHARE.total_seconds()
"""Seconds for each Rollout in which a new leader looks at all of them once, which is no rest yet."""
BARS = {
    "requestsAtRest": 1.5,
    "processorAtRest": 2.0,
    "secondsFromVerdictToWeight": 5.0,
}
"""Requests and processor of the largest size over those of the smallest; the slowest of all the last."""


@dataclass
class Stage:
    """A control plane with Phoenix beside it."""

    plane: ControlPlane
    client: KubeClient
    phoenix: Phoenix
    traffic: Traffic
    weights: dict[int, list[tuple[float, str]]]

    def tails(self) -> str:
        return self.phoenix.tails()


async def measure(options: argparse.Namespace, size: int) -> dict[str, Any]:
    """One size, from an empty control plane on."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="phoenix-scale-")))
        plane = stack.enter_context(ControlPlane.running(controllers=False, audit=True))
        keeper = ValkeyServer(folder / "valkey")
        store = (await keeper.ensure()).url
        traffic = Traffic()
        prometheus = stack.enter_context(measured(traffic))
        rollouts.define(plane)
        plane.kubectl("create", "namespace", NAMESPACE)
        plane.kubectl("create", "serviceaccount", "default", "--namespace", NAMESPACE)
        there = {"cluster": plane, "namespace": NAMESPACE, "store": store, "prometheus": prometheus}
        try:
            async with world.administrator(plane.kubeconfig) as client:
                await settle_first(client, folder, there)
                await fill(client, size)
                with serving.running(folder, **there) as phoenix:
                    stage = Stage(plane, client, phoenix, traffic, {})
                    return await figures(stage, options, size)
        finally:
            await keeper.stop()


async def settle_first(client: KubeClient, folder: Path, there: dict[str, Any]) -> None:
    """Phoenix brings the first one to rest, and is ended."""
    await world.make_first(client)
    first = folder / "first"  # its logs are not those of what is measured
    first.mkdir()
    with serving.running(first, **there) as phoenix:
        await until("the first is at rest", lambda: at_rest(client, FIRST), phoenix.tails)


async def fill(client: KubeClient, size: int) -> None:
    begun = time.monotonic()

    def progress(done: int) -> None:
        if done % 500 == 0:
            say(f"{done} of {size} made, {time.monotonic() - begun:.0f} s")

    await world.copies(client, range(1, size), progress)


async def figures(stage: Stage, options: argparse.Namespace, size: int) -> dict[str, Any]:
    begun = time.monotonic()
    await until("all three have looked", lambda: looked(stage), stage.tails)
    known = round(time.monotonic() - begun, 1)
    await asyncio.sleep(options.settle + size * FIRST_LOOK)
    found: dict[str, Any] = {"rollouts": size, "secondsToKnowTheCluster": known}
    say("at rest")
    found["atRest"] = await window(stage, options.seconds)
    watching = asyncio.create_task(watch_weights(stage))
    active = range(1, options.active + 1)
    say(f"{options.active} releases begin")
    began = time.monotonic()
    for number in active:
        stage.traffic.release(number)
    await world.everywhere(active, lambda number: world.release(stage.client, number))
    await until("all are released", lambda: all_at(stage, active, "5"), stage.tails)
    found["secondsUntilAllHaveWeight"] = round(time.monotonic() - began, 1)
    found["active"] = await window(stage, options.seconds)
    found["verdictToWeight"] = await taken_back(stage, active)
    watching.cancel()
    await asyncio.wait([watching])
    return found


async def window(stage: Stage, seconds: float) -> dict[str, Any]:
    """Processor, memory and requests of each process."""
    processes = {name: psutil.Process(stage.phoenix[name].pid) for name in COMPONENTS}
    busy = {name: sum(one.cpu_times()[:2]) for name, one in processes.items()}
    seen, begun = len(requests(stage)), time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - begun
    asked = requests(stage)[seen:]
    found: dict[str, Any] = {}
    for name, process in processes.items():
        mine = [verb for who, verb in asked if who == ACCOUNTS[name]]
        found[name] = {
            "processorPercent": round(100 * (sum(process.cpu_times()[:2]) - busy[name]) / took, 1),
            "mebibytes": round(process.memory_info().rss / 2**20, 1),
            "requestsPerMinute": round(60 * len(mine) / took, 1),
            "byVerb": dict(Counter(mine).most_common()),
        }
    return found


def requests(stage: Stage) -> list[tuple[str, str]]:
    """Who asked for what, oldest first; Leases and watches that end apart."""
    found = []
    prefix = f"system:serviceaccount:{NAMESPACE}:"
    for line in (stage.plane.folder / "audit.log").read_bytes().splitlines():
        if prefix.encode() in line:
            event = json.loads(line)
            if event["verb"] != "watch" and event.get("objectRef", {}).get("resource") != "leases":
                kind = event.get("objectRef", {}).get("resource", "")
                found.append((event["user"]["username"].removeprefix(prefix), f"{event['verb']} {kind}"))
    return found


async def taken_back(stage: Stage, active: range) -> dict[str, Any]:
    """All canaries fail at once; from each verdict to the weight 0 that follows."""
    say("all canaries begin to fail")
    for number in active:
        stage.traffic.spoil(number)
    await until("all are taken back", lambda: all_at(stage, active, "0"), stage.tails)
    verdicts: dict[str, float] = {}
    for line in stage.phoenix["health-validator"].lines():
        if line["event"] == "verdict" and line["kind"] == "rollback":
            verdicts.setdefault(line["rollout"], datetime.fromisoformat(line["time"]).timestamp())
    waits = sorted(
        next(at for at, weight in stage.weights[number] if weight == "0" and at > verdicts[name_of(number)])
        - verdicts[name_of(number)]
        for number in active
    )
    return {
        "releases": len(waits),
        "medianSeconds": round(waits[len(waits) // 2], 2),
        "slowestSeconds": round(waits[-1], 2),
    }


async def watch_weights(stage: Stage) -> None:
    """Note each change of a weight, with its time."""
    reflector = Reflector(stage.client, stage.client.selection(INGRESSES))

    def note(key: Key) -> None:
        found = reflector.cache.get(key.name, key.namespace)
        if found is None or not key.name.endswith("-canary"):
            return
        weight = found["metadata"]["annotations"].get(WEIGHT, "")
        known = stage.weights.setdefault(int(key.name[4:9]), [])
        if not known or known[-1][1] != weight:
            known.append((time.time(), weight))

    reflector.cache.subscribe(note)
    await reflector.run()


async def all_at(stage: Stage, numbers: range, weight: str) -> bool:
    return all(stage.weights.get(number, [(0, "")])[-1][1] == weight for number in numbers)


async def at_rest(client: KubeClient, name: str) -> bool:
    found = await client.get(ROLLOUTS, name)
    return bool(found.get("status", {}).get("state") == "Idle")


async def looked(stage: Stage) -> bool:
    return all(
        any(line["event"] == "knows the cluster" for line in stage.phoenix[name].lines())
        for name in COMPONENTS
    )


async def until(what: str, condition: Callable[[], Any], told: Callable[[], str]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not await condition():
        if time.monotonic() > give_up:
            raise SystemExit(f"not within {PATIENCE:.0f} s: {what}\n{told()}")
        await asyncio.sleep(0.5)


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def compared(sizes: list[dict[str, Any]]) -> dict[str, float]:
    """The figures that have bars."""
    least, most = sizes[0], sizes[-1]

    def total(one: dict[str, Any], what: str) -> float:
        return sum(float(process[what]) for process in one["atRest"].values())

    return {
        "requestsAtRest": round(
            total(most, "requestsPerMinute") / max(1.0, total(least, "requestsPerMinute")), 2
        ),
        "processorAtRest": round(
            total(most, "processorPercent") / max(1.0, total(least, "processorPercent")), 2
        ),
        "secondsFromVerdictToWeight": max(one["verdictToWeight"]["slowestSeconds"] for one in sizes),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--active", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    parser.add_argument(
        "--settle", type=float, default=30.0, help="seconds after the first looks that do not count"
    )
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    end_in_order()
    result: dict[str, Any] = {"conditions": conditions(), "active": options.active, "sizes": []}
    for size in options.sizes:
        say(f"== {size} rollouts")
        result["sizes"].append(asyncio.run(measure(options, size)))
        print(json.dumps(result["sizes"][-1], indent=1))
    result["sizes"].sort(key=lambda one: one["rollouts"])
    result["compared"] = compared(result["sizes"])
    result["missed"] = [name for name, bar in BARS.items() if result["compared"][name] > bar]
    print(json.dumps(result["compared"], indent=1))
    write(options.json, result)
    return 1 if result["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""What a watched cache costs: the list, the memory of an object, an event, and a quiet minute.

    python -m benchmarks.kube_cache --objects 2000 --json benchmarks/results/kube_cache.json

Objects of about 1.4 kB on a control plane of our own; another process writes them and changes them, so that
time and memory are those of the reader alone. A proof is a list of names and versions.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from benchmarks.conditions import conditions, end_in_order, write
from tests.cluster.plane import ControlPlane

from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.lanes import NORMAL
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.reflector import Reflector
from phoenix_orch.kube.resources import CONFIG_MAPS, Object

LABELS = "bench=yes"
WRITERS = 8
QUIET_SECONDS = 30.0
BARS = {"kilobytesPerObject": 12.0, "microsecondsPerEvent": 1000.0}


def an_object(number: int) -> Object:
    labels = {"bench": "yes", "app": f"service-{number % 50}"}
    data = {f"key-{index}": "x" * 60 for index in range(14)}
    return {"metadata": {"name": f"o{number:05}", "labels": labels}, "data": data}


async def write_objects(kubeconfig: Path, objects: int, *, change: bool) -> None:
    """What the other process does."""
    limits = replace(NORMAL, rate=10_000, burst=10_000)
    async with KubeClient(load(kubeconfig), normal=limits) as client:

        async def some(first: int) -> None:
            for number in range(first, objects, WRITERS):
                if change:
                    found = await client.get(CONFIG_MAPS, f"o{number:05}")
                    patch = merge_patch_of(found, {"data": {"key-0": "changed"}})
                    await client.patch(CONFIG_MAPS, f"o{number:05}", patch)
                else:
                    await client.create(CONFIG_MAPS, an_object(number))

        async with asyncio.TaskGroup() as tasks:
            for first in range(WRITERS):
                tasks.create_task(some(first))


async def other(kubeconfig: Path, objects: int, *, change: bool) -> None:
    words = ["-m", "benchmarks.kube_cache", "--write", str(kubeconfig), "--objects", str(objects)]
    process = await asyncio.create_subprocess_exec(sys.executable, *words, *(["--change"] if change else []))
    assert await process.wait() == 0


async def measure(kubeconfig: Path, objects: int) -> dict[str, Any]:
    await other(kubeconfig, objects, change=False)
    async with KubeClient(load(kubeconfig)) as client:
        await client.list(CONFIG_MAPS, fields="metadata.name=none")  # connected
        reflector = Reflector(client, client.selection(CONFIG_MAPS, labels=LABELS))
        seen = 0
        enough = asyncio.Event()

        def count(_: object) -> None:
            nonlocal seen
            seen += 1
            if seen == objects:
                enough.set()

        reflector.cache.subscribe(count)
        gc.collect()
        memory, begun, busy = resident(), time.monotonic(), time.process_time()
        running = asyncio.create_task(reflector.run())
        await reflector.cache.synced()
        listed = {"listSeconds": time.monotonic() - begun, "listCpuSeconds": time.process_time() - busy}
        gc.collect()
        per_object = (resident() - memory) / 1024 / objects
        seen, busy = 0, time.process_time()
        enough.clear()
        await other(kubeconfig, objects, change=True)
        await enough.wait()
        per_event = 1e6 * (time.process_time() - busy) / objects
        begun, busy = time.monotonic(), time.process_time()
        assert await reflector.prove() == set()
        proof = {"proofSeconds": time.monotonic() - begun, "proofCpuSeconds": time.process_time() - busy}
        busy = time.process_time()
        await asyncio.sleep(QUIET_SECONDS)
        quiet = 100 * (time.process_time() - busy) / QUIET_SECONDS
        grown = (resident() - memory) / 1024 / objects
        assert (reflector.lists, reflector.missed) == (1, 0)
        running.cancel()
        await asyncio.wait([running])
    figures = {
        **listed,
        "kilobytesPerObject": per_object,
        "kilobytesPerObjectAfterChanges": grown,
        "microsecondsPerEvent": per_event,
        **proof,
        "quietCpuPercent": quiet,
    }
    return {name: float(f"{value:.3g}") for name, value in figures.items()}


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--change", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        asyncio.run(write_objects(options.write, options.objects, change=options.change))
        return 0
    end_in_order()
    result: dict[str, Any] = {"conditions": conditions(), "objects": options.objects}
    with ControlPlane.running(controllers=False) as plane:
        result["figures"] = asyncio.run(measure(plane.kubeconfig, options.objects))
    result["missed"] = [name for name, bar in BARS.items() if result["figures"][name] > bar]
    for name, value in result["figures"].items():
        print(f"{name:32} {value:g}")
    if options.json:
        write(options.json, result)
    return 1 if result["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""One run: every candidate side by side on the same two backends, rounds interleaved."""

import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.router import measures
from benchmarks.router.backends import Backend
from benchmarks.router.candidate import Candidate, Site
from benchmarks.router.envoy import Envoy
from benchmarks.router.nginx import Nginx
from benchmarks.router.nginx_njs import NginxNjs
from benchmarks.router.processes import free_port
from benchmarks.router.traefik import Traefik

CANDIDATES: tuple[Callable[[Site], Candidate], ...] = (Traefik, Nginx, NginxNjs, Envoy)
STARTS = 5
SPLITS = 5
ROUNDS = 5
MEGABYTE = 1_000_000

Results = dict[str, dict[str, Any]]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def run() -> dict[str, Any]:
    began = time.monotonic()
    wrk = shutil.which("wrk")
    with ExitStack() as cleanup:
        root = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="bench-router-")))
        stable, canary = Backend("stable", root), Backend("canary", root)
        for backend in (stable, canary):
            cleanup.callback(backend.stop)
            backend.start()
        results: Results = {}
        running = await _start(root, (stable, canary), results, cleanup)
        await _splits(running, results)
        direct = await _speed(running, stable, results, wrk)
        await _changes(running, canary, results)
        for one in running:
            memory = results[one.candidate.name]["memory"]
            memory["after_load_megabytes"] = one.child.resident_bytes() / MEGABYTE
    return {
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "processors": os.cpu_count(),
            "python": platform.python_version(),
        },
        "load": {
            "throughput": "wrk" if wrk else "own asyncio client",
            "everything_else": "own asyncio client",
            "changes": measures.CHANGES,
            "paced_requests_per_second": measures.RATE,
        },
        "direct": direct,
        "candidates": results,
        "seconds": time.monotonic() - began,
    }


async def _start(
    root: Path, backends: tuple[Backend, Backend], results: Results, cleanup: ExitStack
) -> list[measures.Running]:
    """Start every candidate several times in turn and keep the last process of each."""
    candidates = []
    for make in CANDIDATES:
        directory = root / make.__name__.lower()
        directory.mkdir()
        site = Site(directory, free_port(), free_port(), backends[0].port, backends[1].port)
        candidates.append(make(site))
    seconds: dict[str, list[float]] = defaultdict(list)
    kept: dict[str, measures.Running] = {}
    for number in range(STARTS):
        _say(f"start {number + 1} of {STARTS}")
        for candidate in candidates:
            if number:
                kept[candidate.name].child.stop()
            kept[candidate.name], taken = await measures.start(candidate)
            cleanup.callback(kept[candidate.name].child.stop)
            seconds[candidate.name].append(taken)
    for name, one in kept.items():
        results[name] = {
            "facts": asdict(one.candidate.facts),
            "program_megabytes": one.candidate.binary.stat().st_size / MEGABYTE,
            "start_seconds": statistics.median(seconds[name]),
            "memory": {"after_start_megabytes": one.child.resident_bytes() / MEGABYTE},
        }
    return list(kept.values())


async def _splits(running: list[measures.Running], results: Results) -> None:
    rounds: dict[str, list[measures.Figures]] = defaultdict(list)
    for number in range(SPLITS):
        _say(f"split {number + 1} of {SPLITS}")
        for one in running:
            rounds[one.candidate.name].append(await measures.split(one))
    for name, figures in rounds.items():
        percents = [float(f["canary_percent"] or 0) for f in figures]
        results[name]["split"] = {
            "percents": percents,
            "mean_percent": statistics.mean(percents),
            "max_deviation_points": max(abs(p - measures.SPLIT_PERCENT) for p in percents),
            "counters_agree_after_seconds": _median(figures, "counters_agree_after_seconds"),
            "buckets_agree_after_seconds": _median(figures, "buckets_agree_after_seconds"),
        }


def _median(figures: list[measures.Figures], key: str) -> float | None:
    """The median, or None when the thing did not happen in one of the rounds."""
    values = [value for f in figures if (value := f[key]) is not None]
    return statistics.median(values) if len(values) == len(figures) else None


async def _speed(
    running: list[measures.Running], stable: Backend, results: Results, wrk: str | None
) -> dict[str, float]:
    """Latency and throughput next to direct access, the order turned in every round."""
    ports = {"direct": stable.port} | {one.candidate.name: one.port for one in running}
    for one in running:
        await one.settle(measures.SPLIT_PERCENT)
    rounds: dict[str, list[dict[str, float]]] = defaultdict(list)
    for number in range(ROUNDS):
        _say(f"latency and throughput {number + 1} of {ROUNDS}")
        order = list(ports)[number % len(ports) :] + list(ports)[: number % len(ports)]
        for name in order:
            figures = await measures.latency(ports[name])
            figures["rate"] = await measures.throughput(ports[name], wrk)
            rounds[name].append(figures)

    def middle(name: str, key: str) -> float:
        return statistics.median(figures[key] for figures in rounds[name])

    def added(name: str, key: str) -> float:
        pairs = zip(rounds[name], rounds["direct"], strict=True)
        return statistics.median(mine[key] - direct[key] for mine, direct in pairs)

    for name in results:
        results[name]["latency"] = {
            "p50_seconds": middle(name, "p50"),
            "p99_seconds": middle(name, "p99"),
            "added_p50_seconds": added(name, "p50"),
            "added_p99_seconds": added(name, "p99"),
        }
        results[name]["throughput"] = {
            "requests_per_second": middle(name, "rate"),
            "of_direct": middle(name, "rate") / middle("direct", "rate"),
        }
    return {
        "p50_seconds": middle("direct", "p50"),
        "p99_seconds": middle("direct", "p99"),
        "requests_per_second": middle("direct", "rate"),
    }


async def _changes(running: list[measures.Running], canary: Backend, results: Results) -> None:
    for one in running:
        name = one.candidate.name
        _say(f"changes and faults: {name}")
        results[name]["changes_keep_alive"] = await measures.changes(one, keep_alive=True)
        results[name]["changes_new_connections"] = await measures.changes(one, keep_alive=False)
        results[name]["unattended"] = await measures.unattended(one)
        results[name]["backend_death"] = await measures.backend_death(one, canary)

"""Phoenix of a cluster as a process of its own that a test may kill, with evidence that the test chooses.

What runs is what `phoenix serve COMPONENT --kubernetes` runs, but for the numbers: they are not read from a
Prometheus. The process is forked from one that has everything imported, since a matrix needs hundreds.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from phoenix_orch.api.in_cluster import serve_in_cluster
from phoenix_orch.health_validator.observation import Arm, Observation
from phoenix_orch.health_validator.sources.source import Context, Reading, SourceMemory
from phoenix_orch.kube.lanes import NORMAL
from phoenix_orch.orchestrator.cluster.components import orchestrate, roll_back, validate
from phoenix_orch.orchestrator.cluster.parts import LEASES, Pace
from phoenix_orch.orchestrator.cluster.prometheus import Endpoints
from phoenix_orch.orchestrator.kubernetes import ClusterSettings, Work, serve
from phoenix_orch.runtime.logs import configure_logs

COMPONENTS = tuple(LEASES)
REQUESTS = 2000
"""Of both variants together in each interval."""
_SLICE = 10.0
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class Orders:
    """What a process is told."""

    kubeconfigs: Mapping[str, Path]
    """By component; one that is missing does not run here."""
    namespace: str
    store: str
    """Address of the Valkey."""
    log: Path
    bad: bool = False
    """The canary fails every second request."""
    pace: Pace = field(default_factory=Pace)
    api: bool = False
    """The orchestrator answers its API, on a port of loopback that its log tells."""


class ChosenEvidence:
    """An EvidenceSource: both variants answer, and the canary fails if it is to."""

    def __init__(self, *, bad: bool) -> None:
        self._bad = bad

    async def observe(self, context: Context, memory: SourceMemory) -> Reading:
        shares = context.shares if context.stable is not None else {context.revision: 100}
        bad = context.revision if self._bad and context.stable is not None else None
        arms = {one: _arm(one, REQUESTS * share // 100, bad=one == bad) for one, share in shares.items()}
        observation = Observation(
            t0=context.t0,
            t1=context.t1,
            revision=context.revision,
            step=context.step,
            weight_applied=context.weight,
            canary=arms[context.revision],
            stable=arms.get(context.stable) if context.stable is not None else None,
            notes=context.notes,
        )
        return Reading(observation, memory)


def _arm(revision: str, requests: int, *, bad: bool) -> Arm:
    buckets = ((0.05, requests), (0.1, 0), (0.2, 0), (math.inf, 0))
    errors = requests // 2 if bad else 0
    return Arm(revision=revision, requests=requests, errors=errors, buckets=buckets, processes=1)


class Process:
    """One that runs."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self._process = _processes.Process(target=_main, args=(orders,), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """As the kernel does it for want of memory. Also ends one that is stopped."""
        self._process.kill()
        self._process.join(_SLICE)
        assert not self._process.is_alive()

    def said(self) -> str:
        """Its whole log, and that of those before it."""
        return self.orders.log.read_text("utf-8") if self.orders.log.exists() else ""

    def tail(self) -> str:
        return self.said()[-6000:]


@contextmanager
def running(orders: Orders) -> Iterator[Process]:
    """Killed at the end, if it still lives."""
    process = Process(orders)
    try:
        yield process
    finally:
        process.kill()


def _main(orders: Orders) -> None:
    os.setsid()  # the signals of a terminal are for the tests
    threading.Thread(target=_end_with_the_tests, daemon=True).start()
    out = os.open(orders.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    configure_logs(json=True)
    asyncio.run(_all(orders))


def _end_with_the_tests() -> None:
    """Also where they are killed, and can end nothing themselves. One that is stopped stays."""
    tests = multiprocessing.parent_process()
    assert tests is not None
    tests.join()
    os._exit(1)


async def _all(orders: Orders) -> None:
    works: dict[str, Work] = {
        "orchestrator": partial(orchestrate, endpoints=Endpoints({})),
        "health-validator": partial(_validate, bad=orders.bad),
        "rollback-controller": roll_back,
    }
    async with asyncio.TaskGroup() as group:
        for component, kubeconfig in orders.kubeconfigs.items():
            answers = orders.api and component == "orchestrator"
            settings = ClusterSettings(
                orders.store,
                namespace=orders.namespace,
                kubeconfig=kubeconfig,
                api=("127.0.0.1", 0) if answers else None,
            )
            work = serve(component, settings, works[component], orders.pace, serve_api=serve_in_cluster)
            group.create_task(work)


async def _validate(parts: Any, *, bad: bool) -> None:
    await validate(parts, ChosenEvidence(bad=bad))


__all__ = ["COMPONENTS", "NORMAL", "Orders", "Process", "running"]

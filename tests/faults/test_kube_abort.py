"""R2 on a cluster: an abort needs the API server and nothing else, and half of what is written may fail.

Prometheus, Redis, the health validator and the orchestrator are down. Every second write is answered with a
conflict or 500. From the word, or the event, until the object that carries the weight says 0: 5 s at most.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.kubectl import Cluster
from tests.cluster.pods import stamp
from tests.faults.busy import slowdown
from tests.faults.kube_phoenix import COMPONENTS, Orders, Process, running
from tests.faults.kube_stage import CANARY, NAME, ROUTERS, SPEC, Stage, a_stage, kubeconfig_of

from phoenix_orch.client.cluster import ClusterClient
from phoenix_orch.kube.resources import PODS, ROLLOUTS
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.cluster.declared import Rollouts
from phoenix_orch.orchestrator.cluster.parts import Pace
from phoenix_orch.orchestrator.cluster.person import AbortedInCluster
from phoenix_orch.orchestrator.cluster.routing import ClusterRouter
from phoenix_orch.runtime.valkey_server import ValkeyServer
from phoenix_orch.testing.api_faults import WRITES, Answer
from phoenix_orch.testing.faulty_api_server import FaultyApiServer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

BAR = 5.0
"""Seconds."""
WEIGHT = 20
LONG: dict[str, Any] = {
    **SPEC,
    "phases": [{"name": "initial", "weight": WEIGHT, "duration": "1h", "limits": {"errorRate": "1%"}}],
}
SEEDS = range(25)
COMMAND = (sys.executable, "-m", "phoenix_orch")


def half_of_all_writes_fail(server: FaultyApiServer) -> None:
    server.inject(Answer(409, "Conflict"), verb=WRITES, share=0.25, times=10**6)
    server.inject(Answer(500, "InternalError"), verb=WRITES, share=1 / 3, times=10**6)


@pytest.fixture(params=ROUTERS)
async def stage(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> AsyncIterator[Stage]:
    """A release at 20 per cent, of which everything that steered it is dead."""
    keeper = ValkeyServer(tmp_path / "valkey")
    store = (await keeper.ensure()).url
    async with a_stage(cluster, request.param, LONG) as made:
        kubeconfigs = dict.fromkeys(COMPONENTS, cluster.kubeconfig)
        orders = Orders(kubeconfigs, made.namespace, store, tmp_path / "phoenix.log", pace=Pace(settled=0.2))
        with running(orders) as phoenix:
            await made.until("Phoenix knows it", lambda view: view.state == "Idle", 240, phoenix.tail)
            await made.release()
            await made.until("users get it", lambda view: view.weight == WEIGHT, 240, phoenix.tail)
        await keeper.stop()
        yield made


async def exposed_again(stage: Stage) -> None:
    """As it was before the abort; a person's retry would be a release of its own."""
    rollouts = Rollouts([await stage.kube.get(ROLLOUTS, NAME)])
    router = ClusterRouter(stage.kube, stage.namespace, rollouts)
    state = await router.read(NAME)
    assert state.canary is not None
    state = await router.clear_latch(NAME, state.canary.revision)
    await router.write(state.model_copy(update={"weight": WEIGHT, "aborted": ()}))
    await stage.edit(ROLLOUTS, NAME, {"status": {"commands": None}}, subresource="status")
    await stage.until("users get it", lambda view: view.weight == WEIGHT, 240)


async def seconds_until_safe(stage: Stage, began: float) -> float:
    await stage.until(
        "the weight is 0 and latched", lambda view: view.weight == 0 and bool(view.latches), 240
    )
    return time.monotonic() - began


def report(what: str, stage: Stage, took: Sequence[float]) -> None:
    """The distribution; and the bar holds for the slowest, as far as this machine is ours."""
    middle, worst = statistics.median(took), max(took)
    tenth = statistics.quantiles(took, n=10)[-1] if len(took) > 1 else worst
    times = f"median {middle:.2f} s, p90 {tenth:.2f} s, worst {worst:.2f} s"
    bar = BAR * slowdown()
    said = f"{what}, {stage.router}: {len(took)} times, {times}; the bar is {bar:.1f} s"
    sys.stdout.write(f"\n{said}\n")
    assert worst <= bar, said


def abort(access: Access) -> AbortedInCluster:
    with ClusterClient(access) as client:
        return client.abort(NAME, reason="a test")


async def test_a_persons_word(stage: Stage, tmp_path: Path) -> None:
    """What `phoenix rollout abort --kubernetes` does, over connections of its own each time."""
    took = []
    for seed in SEEDS:
        async with FaultyApiServer(stage.kube.target, seed=seed) as server:
            half_of_all_writes_fail(server)
            access = Access(stage.namespace, kubeconfig_of(server.target, tmp_path / "person"))
            began = time.monotonic()
            said = asyncio.create_task(asyncio.to_thread(abort, access))
            took.append(await seconds_until_safe(stage, began))
            assert (await said).weight == 0
        await exposed_again(stage)
    report("abort of a person", stage, took)


async def test_the_whole_command(stage: Stage, tmp_path: Path) -> None:
    """From the key that starts the command. Its start is counted as the time that it computes, which others
    that want the same processors do not make longer; from its first request on the time of a clock counts."""
    took = []
    for seed in SEEDS[:5]:
        async with FaultyApiServer(stage.kube.target, seed=seed) as server:
            half_of_all_writes_fail(server)
            kubeconfig = kubeconfig_of(server.target, tmp_path / "person")
            where = f"--namespace {stage.namespace} --kubeconfig {kubeconfig}"
            words = f"rollout abort {NAME} --kubernetes {where}".split()
            before = computed()
            command = await asyncio.create_subprocess_exec(
                *COMMAND, *words, "--reason", "a test", stdout=asyncio.subprocess.PIPE
            )
            while not server.asked:
                await asyncio.sleep(0.005)
            safe = await seconds_until_safe(stage, time.monotonic())
            told, _ = await command.communicate()
            assert command.returncode == 0
            assert b"is latched with weight 0" in told
            took.append(computed() - before + safe)
        await exposed_again(stage)
    report("phoenix rollout abort", stage, took)


def computed() -> float:
    """Seconds of a processor that ended children have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def test_an_instant_event_with_the_rollback_controller_alone(stage: Stage, tmp_path: Path) -> None:
    """A crash loop in the status of the canary's pod; the store of the log is dead all the time."""
    took = []
    for seed in SEEDS[:5]:
        async with FaultyApiServer(stage.kube.target, seed=seed) as server:
            half_of_all_writes_fail(server)
            kubeconfig = kubeconfig_of(server.target, tmp_path / "controller")
            orders = Orders(
                {"rollback-controller": kubeconfig},
                stage.namespace,
                f"unix://{tmp_path}/nobody",
                tmp_path / f"controller-{seed}.log",
            )
            with running(orders) as controller:
                await leads(controller)
                for _ in range(3):
                    began = await crashes(stage)
                    took.append(await seconds_until_safe(stage, began))
                    await another_release(stage)
                assert '"unforeseen"' not in controller.said()
    report("crash loop", stage, took)


async def leads(process: Process) -> None:
    async with asyncio.timeout(60):
        while '"leads"' not in process.said():
            await asyncio.sleep(0.05)


async def crashes(stage: Stage, app: str = CANARY) -> float:
    """The container of one pod has ended twice; when that was said."""
    pod = (await pods(stage, app))[0]
    now = datetime.now(UTC)
    began = time.monotonic()
    await stage.kubelet.say(
        pod,
        ready=False,
        restartCount=1,
        lastState=ended(now),
        state=ended(now),
    )
    return began


def ended(at: datetime) -> dict[str, Any]:
    began = stamp(at - timedelta(seconds=1))
    return {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": began, "finishedAt": stamp(at)}}


async def pods(stage: Stage, app: str = CANARY) -> list[str]:
    """Names of those that stay."""
    found = (await stage.kube.list(PODS, labels=f"app={app}")).items
    return [one["metadata"]["name"] for one in found if "deletionTimestamp" not in one["metadata"]]


async def another_release(stage: Stage) -> None:
    """The crashed pod is replaced, and the same revision is released once more."""
    (crashed,) = await pods(stage)
    await stage.kube.delete(PODS, crashed, grace=0)
    async with asyncio.timeout(60):
        while crashed in await pods(stage) or stage.view.ready(CANARY) < 1:
            await asyncio.sleep(0.05)
    number = stage.view.status["release"] + 1
    began = datetime.now(UTC) - timedelta(seconds=10)
    status = {"release": number, "releaseStarted": stamp(began)}
    await stage.edit(ROLLOUTS, NAME, {"status": status}, subresource="status")
    await exposed_again(stage)

"""Leaders of real components killed and stopped in every phase of a release; two replicas of each.

Each replica has a service account of its own, so that the audit log of the API server tells who wrote what.
Leases have the timing that `phoenix serve --kubernetes` has.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.plane import ControlPlane
from tests.cluster.serving import ACCOUNTS, rights
from tests.faults.busy import slowdown
from tests.faults.kube_phoenix import Orders, Process
from tests.faults.kube_stage import CANARY, NAME, SPEC, Stage, a_stage
from tests.faults.test_kube_abort import crashes

from phoenix_orch.kube.resources import LEASES
from phoenix_orch.orchestrator.cluster.parts import LEASES as LEASE_NAMES
from phoenix_orch.orchestrator.cluster.parts import Pace
from phoenix_orch.rollout.store.valkey import ValkeyStore
from phoenix_orch.runtime.valkey_server import ValkeyServer

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

BAR = 15.0
"""Seconds from the kill to the first act of another replica."""
ORCHESTRATOR, VALIDATOR, CONTROLLER = "orchestrator", "health-validator", "rollback-controller"
PHASES: dict[str, Any] = {
    "initial": lambda view: view.state == "Progressing" and view.status.get("step", 0) == 0,
    "expanded": lambda view: view.state == "Progressing" and view.status.get("step", 0) == 1,
    "full": lambda view: view.state == "Progressing" and view.status.get("step", 0) == 2,
    "promoting": lambda view: view.state == "Promoting",
    "baking": lambda view: view.state == "Baking",
    "rolling back": lambda view: view.state == "RollingBack",
}
LIMITS = {"errorRate": "1%"}


def spec(*, held: str) -> dict[str, Any]:
    """A release that goes quickly to this phase and stays in it for long."""

    def long(phase: str) -> str:
        return "10m" if phase == held else "1s"

    return {
        **SPEC,
        "phases": [
            {"name": "initial", "weight": 5, "duration": long("initial"), "limits": LIMITS},
            {"name": "expanded", "weight": 20, "duration": long("expanded"), "limits": LIMITS},
            {"name": "full", "step": 80, "every": long("full"), "limits": LIMITS},
        ],
        "policy": {"bake": long("baking")},
    }


class Replica:
    """One of two processes of a component."""

    def __init__(self, cluster: ControlPlane, stage: Stage, component: str, number: int, orders: Any) -> None:
        self.component = component
        self.account = f"{ACCOUNTS[component]}-{number}"
        kubeconfig = cluster.service_account(stage.namespace, self.account)
        self.user = f"system:serviceaccount:{stage.namespace}:{self.account}"
        self.process = Process(orders(component, kubeconfig, self.account))
        self._cluster = cluster

    def leads(self) -> bool:
        """By what it says itself: it has begun to lead and not ended."""
        said = self.process.said()
        return said.rfind('"leads"') > said.rfind('"no longer leads"')

    def writes(self, since: str = "") -> list[dict[str, Any]]:
        """Everything that it wrote after `since`, a time of the audit log; Leases are left out."""
        return [
            event
            for event in self._cluster.audit_events(self.user)
            if event["verb"] not in {"get", "list", "watch"}
            and event["objectRef"]["resource"] != "leases"
            and event["requestReceivedTimestamp"] > since
        ]


class Pairs:
    """Two replicas of each component on one stage."""

    def __init__(self, stage: Stage, log: ValkeyStore, replicas: dict[str, tuple[Replica, Replica]]) -> None:
        self.stage = stage
        self.log = log
        self.replicas = replicas

    async def leader(self, component: str) -> tuple[Replica, Replica]:
        """The one that leads, and the other."""
        async with asyncio.timeout(240):
            while True:
                for one, other in (self.replicas[component], self.replicas[component][::-1]):
                    if one.leads() and await self._holder(component):
                        return one, other
                await asyncio.sleep(0.1)

    async def _holder(self, component: str) -> str:
        lease = await self.stage.kube.get(LEASES, LEASE_NAMES[component])
        return str(lease.get("spec", {}).get("holderIdentity") or "")

    def tails(self) -> str:
        return "\n".join(
            f"--- {one.account}\n{one.process.tail()}" for pair in self.replicas.values() for one in pair
        )

    async def reaches(self, what: str, holds: Any) -> None:
        await self.stage.until(what, holds, 240, self.tails)


@asynccontextmanager
async def pairs(cluster: ControlPlane, folder: Path, spec: dict[str, Any]) -> AsyncIterator[Pairs]:
    keeper = ValkeyServer(folder / "valkey")
    store = (await keeper.ensure()).url
    async with AsyncExitStack() as stack:
        stack.push_async_callback(keeper.stop)
        stage = await stack.enter_async_context(a_stage(cluster, spec=spec))
        await asyncio.to_thread(cluster.apply, *two_of_each(stage.namespace))

        def orders(component: str, kubeconfig: Path, account: str) -> Orders:
            log = folder / f"{account}.log"
            return Orders({component: kubeconfig}, stage.namespace, store, log, pace=Pace(settled=1.0))

        def begin() -> dict[str, tuple[Replica, Replica]]:
            found = {}
            for component in ACCOUNTS:
                first, second = (Replica(cluster, stage, component, number, orders) for number in (1, 2))
                found[component] = first, second
                stack.callback(first.process.kill)
                stack.callback(second.process.kill)
            return found

        log = ValkeyStore(store, prefix=f"phoenix:{stage.namespace}:")
        stack.push_async_callback(log.close)
        yield Pairs(stage, log, await asyncio.to_thread(begin))


def two_of_each(namespace: str) -> Iterator[dict[str, Any]]:
    """The manifests of the rights, for a pair of accounts instead of one."""
    for one in rights(namespace):
        for subject in list(one.get("subjects", ())):
            one["subjects"] = [{**subject, "name": f"{subject['name']}-{number}"} for number in (1, 2)]
        yield one


def now() -> str:
    """As the audit log writes times."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def until(what: str, holds: Any, told: Any, seconds: float = 60.0) -> float:
    """When it held first, by a clock that goes on."""
    give_up = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < give_up, f"not within {seconds:g} s: {what}\n{told()}"
        await asyncio.sleep(0.05)
    return time.monotonic()


async def at_phase(there: Pairs, phase: str) -> None:
    """A release is in this phase, and stays."""
    await there.reaches("Phoenix knows it", lambda view: view.state == "Idle")
    for component in ACCOUNTS:
        await there.leader(component)
    if phase == "promoting":
        await there.stage.release()
        await there.reaches("all users get it", lambda view: view.weight == 100)
        there.stage.kubelet.never_ready.add("shop:2")  # stable's new pods are not ready for now
    elif phase == "rolling back":
        await there.stage.release()
        await there.reaches("users get it", lambda view: view.weight > 0)
        await crashes(there.stage)
    else:
        await there.stage.release()
    await there.reaches(phase, PHASES[phase])


@pytest.mark.parametrize("phase", PHASES)
async def test_killed_leaders_are_followed_in_time(
    phase: str, control_plane: ControlPlane, tmp_path: Path
) -> None:
    """All three at once, which is harder than one: nobody is left who knows anything by heart."""
    held = "" if phase in {"promoting", "rolling back"} else phase
    async with pairs(control_plane, tmp_path, spec(held=held)) as there:
        await at_phase(there, phase)
        leaders = {component: await there.leader(component) for component in ACCOUNTS}
        killed_at, since = time.monotonic(), now()
        for leader, _ in leaders.values():
            leader.process.kill()
        await there.stage.drift()
        took = await asyncio.gather(
            *(acts(there, component, other, killed_at, since) for component, (_, other) in leaders.items())
        )
        told = ", ".join(
            f"{component} {seconds:.1f} s" for component, seconds in zip(leaders, took, strict=True)
        )
        sys.stdout.write(f"\n{phase}: {told}\n")
        assert max(took) <= BAR * slowdown(), told
        never_two(leaders, since)
        there.stage.kubelet.never_ready.clear()


async def acts(there: Pairs, component: str, other: Replica, killed_at: float, since: str) -> float:
    """Seconds from the kill to the first act of the other replica.

    The orchestrator acts by writing an object, a validator by a verdict. Where nothing is judged, and for a
    controller that has no reason to take anything back, it is that they lead.
    """

    async def acted() -> bool:
        if component == ORCHESTRATOR:
            return bool(other.writes(since))
        if component == VALIDATOR and there.stage.view.state in {"Progressing", "Baking"}:
            found = await there.log.verdict(NAME)
            return other.leads() and found is not None and found[0].at.isoformat() > since[:19]
        return other.leads()

    return await until(f"{other.account} acts", acted, there.tails) - killed_at


def never_two(leaders: dict[str, tuple[Replica, Replica]], since: str) -> None:
    """No write of a leader before was taken after the first of the next."""
    for leader, other in leaders.values():
        taken = [event["requestReceivedTimestamp"] for event in other.writes(since)]
        late = leader.writes(taken[0]) if taken else []
        assert [one for one in late if one["responseStatus"]["code"] < 400] == [], leader.account


@pytest.mark.parametrize("phase", ["initial", "baking"])
async def test_a_controller_that_follows_takes_back_what_crashed_meanwhile(
    phase: str, control_plane: ControlPlane, tmp_path: Path
) -> None:
    """The leader is killed, and the version crashes when nobody looks."""
    async with pairs(control_plane, tmp_path, spec(held=phase)) as there:
        await at_phase(there, phase)
        leader, other = await there.leader(CONTROLLER)
        killed_at, since = time.monotonic(), now()
        leader.process.kill()
        await crashes(there.stage, app=NAME if phase == "baking" else CANARY)

        async def latched() -> bool:
            return bool(there.stage.view.latches)

        took = await until("it is latched", latched, there.tails) - killed_at
        sys.stdout.write(f"\ncrash in {phase}: latched {took:.1f} s after the kill\n")
        assert took <= BAR * slowdown()
        assert other.writes(since) != []
        await there.reaches("it is rolled back", lambda view: view.state == "RolledBack")


async def test_a_leader_that_was_stopped_writes_nothing_when_it_goes_on(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    """SIGSTOP for longer than the Lease, then SIGCONT: it is refused by its own fence, and by versions."""
    async with pairs(control_plane, tmp_path, spec(held="initial")) as there:
        await at_phase(there, "initial")
        leaders = {component: await there.leader(component) for component in ACCOUNTS}
        since = now()
        for leader, _ in leaders.values():
            leader.process.send(signal.SIGSTOP)
        await there.stage.drift()
        _, new = leaders[ORCHESTRATOR]

        async def the_other_wrote() -> bool:
            return bool(new.writes(since))

        await until("the other puts it back", the_other_wrote, there.tails)
        for _, other in leaders.values():
            await until(f"{other.account} leads", _says(other.leads), there.tails)
        for leader, _ in leaders.values():
            leader.process.send(signal.SIGCONT)
        for leader, _ in leaders.values():
            await until(f"{leader.account} gives up", _says(lambda one=leader: not one.leads()), there.tails)
        before = len(new.writes(since))
        await there.stage.drift()

        async def it_wrote_again() -> bool:
            return len(new.writes(since)) > before

        await until("the other goes on", it_wrote_again, there.tails)
        never_two(leaders, since)


def _says(condition: Any) -> Any:
    async def holds() -> bool:
        return bool(condition())

    return holds

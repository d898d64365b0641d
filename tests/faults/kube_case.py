"""One release on a real API server, with one fault at one of its calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from tests.cluster.kubectl import Cluster
from tests.faults.busy import slowdown
from tests.faults.kube_calls import Purposes
from tests.faults.kube_history import View, violations
from tests.faults.kube_phoenix import COMPONENTS, Orders, Process
from tests.faults.kube_stage import CANARY, NAME, REPLICAS, Stage, a_stage, kubeconfig_of

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.kube.lanes import NORMAL
from phoenix_orch.kube.lease import LeaseTiming
from phoenix_orch.kube.resources import (
    DEPLOYMENTS,
    HTTP_ROUTES,
    INGRESSES,
    LEASES,
    ROLLOUTS,
    SERVICES,
    Resource,
)
from phoenix_orch.orchestrator.cluster.parts import Pace
from phoenix_orch.testing.api_faults import WRITES, Answer, Asked, Hang, Meanwhile, Rule, Slow
from phoenix_orch.testing.api_faults import Fault as ApiFault
from phoenix_orch.testing.faulty_api_server import FaultyApiServer
from phoenix_orch.traffic.kube_record import TRAFFIC

PACE = Pace(
    settled=0.2,
    lease=LeaseTiming(duration=12, renew_deadline=10, retry=1.5),
    limits=replace(NORMAL, attempt=5.0),
)
"""A release of seconds. Calls that do not answer are given up after five."""
STARTS_WITHIN = 240.0
ENDS_WITHIN = 60.0
"""Seconds, on a machine that has nothing else to do."""
OWNER_NOTICES = 1.0
"""Seconds until the owner of what was deleted puts it back."""
_KINDS = {one.plural: one for one in (DEPLOYMENTS, HTTP_ROUTES, INGRESSES, LEASES, ROLLOUTS, SERVICES)}


class Story(StrEnum):
    GOOD = "good"
    BAD = "bad"


class Fault(StrEnum):
    KILL_BEFORE = "kill -9 before it"
    KILL_AFTER = "kill -9 after it"
    CONFLICT = "conflict"
    TIME_OUT = "time-out"
    ERROR = "500"
    DELETION = "deletion"


class End(StrEnum):
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    CANCELLED = "cancelled"
    GIVEN_BACK = "given back"


ENDING_OF = {Story.GOOD: End.PROMOTED, Story.BAD: End.ROLLED_BACK}
"""Without a fault."""
TIMES = {Fault.CONFLICT: 3, Fault.ERROR: 3}
"""In a row; else once."""


def faults_of(call: str) -> tuple[Fault, ...]:
    """Those that can meet a call of this purpose. Pure."""
    _, _, words = call.partition(": ")
    verb = words.split()[0]
    faults = [Fault.KILL_BEFORE, Fault.TIME_OUT, Fault.ERROR]
    if verb in WRITES:
        faults += [Fault.KILL_AFTER, Fault.CONFLICT]
    if verb not in {"create", "list", "watch"}:
        faults.append(Fault.DELETION)
    return tuple(one for one in Fault if one in faults)


def endings(story: Story, call: str, fault: Fault | None) -> frozenset[End]:
    """How it may end. Pure.

    A deleted Rollout gives everything back to stable; a deleted canary ends its release. Everything else ends
    as it does without the fault; what its owner deletes and puts back may also end the release.
    """
    same = ENDING_OF[story]
    if fault is not Fault.DELETION:
        return frozenset({same})
    words = call.partition(": ")[2]
    if " rollout" in words:
        return frozenset({End.GIVEN_BACK})
    if f"deployment {CANARY}" in words:
        return frozenset({same, End.CANCELLED, End.ROLLED_BACK})
    if f"deployment {NAME}" in words or f"ingress {NAME}," in words or f"httproute {NAME}" in words:
        return frozenset({same, End.ROLLED_BACK, End.CANCELLED})
    return frozenset({same})


def end_of(view: View, since: str) -> End | None:
    """How it has ended; None: not yet. `since`: the last image of a canary that was released. Pure."""
    if view.rollout is None:
        marked = view.carrier is not None and TRAFFIC in view.carrier["metadata"].get("annotations", {})
        return End.GIVEN_BACK if not marked else None
    if view.weight > 0 or view.size(CANARY) > 0:
        return None
    released = view.status.get("release", 0) > 0
    match view.state:
        case "Promoted" if view.image(NAME) == since:
            return End.PROMOTED
        case "RolledBack" if view.image(NAME) != since and view.latches:
            return End.ROLLED_BACK
        case "Idle" if released and view.image(NAME) != since:
            return End.CANCELLED
    return None


@dataclass
class Outcome:
    """What came of it."""

    end: End | None
    broken: list[str]
    """Rules, in words."""
    calls: tuple[str, ...]
    """Purposes, in their order, until the fault struck."""
    struck: bool
    told: str = field(repr=False, default="")
    """What to show when something is wrong."""


class _Strike:
    """Finds the call among all, and does the fault to it."""

    def __init__(self, stage: Stage, call: str, fault: Fault | None) -> None:
        self.calls: dict[str, None] = {}
        self.rules: list[Rule] = []
        self.asked: Asked | None = None
        self._component = ""
        self.ended = False
        """The release is over: later calls are no longer its own."""
        self._stage = stage
        self._call = call
        self._fault = fault
        self._purposes = Purposes()

    def arm(self, server: FaultyApiServer, component: str) -> None:
        times = TIMES.get(self._fault, 1) if self._fault is not None else 10**9
        rule = server.inject(self._api_fault(), times=times, where=self._finding(component))
        self.rules.append(rule)

    def _finding(self, component: str) -> Callable[[Asked], bool]:
        def fits(asked: Asked) -> bool:
            purpose = self._purposes.of(component, asked)
            if not self.ended:
                self.calls.setdefault(purpose)
            if self.asked is None and purpose == self._call:
                self.asked, self._component = asked, component
            return self._component == component and _key(asked) == _key(self.asked)

        return fits

    def _api_fault(self) -> ApiFault:
        verb = self._call.partition(": ")[2].split()[0] if self._call else ""
        match self._fault:
            case Fault.KILL_AFTER:
                return Hang(done=True)
            case Fault.TIME_OUT:
                return Hang(done=verb in WRITES)
            case Fault.CONFLICT:
                return Answer(409, "AlreadyExists" if verb == "create" else "Conflict")
            case Fault.ERROR:
                return Answer(500, "InternalError")
            case Fault.DELETION:
                return Meanwhile(self._delete)
        return Hang()

    @property
    def held(self) -> bool:
        return any(rule.held for rule in self.rules)

    async def _delete(self) -> None:
        assert self.asked is not None
        resource, name = _KINDS[self.asked.resource], self.asked.name
        with contextlib.suppress(NotFound):
            found = await self._stage.kube.get(resource, name)
            await self._stage.kube.delete(resource, name, uid=found["metadata"]["uid"])
            if name == NAME and resource is not ROLLOUTS:
                self._put_back_task = asyncio.create_task(self._put_back(resource, name))

    async def _put_back(self, resource: Resource, name: str) -> None:
        await asyncio.sleep(OWNER_NOTICES)
        await self._stage.kube.create(resource, self._stage.first[resource.plural, name])


def _key(asked: Asked | None) -> tuple[str, ...]:
    assert asked is not None
    return asked.verb, asked.resource, asked.name, asked.subresource


async def play(
    cluster: Cluster,
    store: str,
    folder: Path,
    *,
    story: Story,
    router: str,
    call: str = "",
    fault: Fault | None = None,
    slowed: int = 0,
) -> Outcome:
    """One release. Without a `call` nothing goes wrong. `slowed`: other than 0, calls take longer at random,
    each number its own way, so that the processes meet each other at other moments."""
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(a_stage(cluster, router))
        strike = _Strike(stage, call, fault)
        kubeconfigs = {}
        for component in COMPONENTS:
            server = await stack.enter_async_context(FaultyApiServer(stage.kube.target, seed=slowed))
            strike.arm(server, component)
            if slowed:
                slow_down(server)
            path = folder / f"{stage.namespace}-{component}.kubeconfig"
            kubeconfigs[component] = kubeconfig_of(server.target, path)
        orders = Orders(
            kubeconfigs, stage.namespace, store, folder / f"{stage.namespace}.log", story is Story.BAD, PACE
        )
        killer = asyncio.create_task(_life(orders, strike, fault))
        try:
            return await _watched(stage, strike, story, call, fault, orders)
        finally:
            killer.cancel()
            await asyncio.wait([killer])


def slow_down(server: FaultyApiServer) -> None:
    """Some calls take half a second more, some a second. Leases are left alone: nobody loses office."""
    for share, seconds in ((0.25, 0.5), (0.1, 1.0)):
        server.inject(
            Slow(seconds),
            times=10**6,
            share=share,
            where=lambda asked: asked.verb != "watch" and asked.resource != LEASES.plural,
        )


async def _life(orders: Orders, strike: _Strike, fault: Fault | None) -> None:
    """A process until cancelled; where the fault says so it is killed at the call, and another begins."""
    process = await _begun(orders)
    try:
        if fault in {Fault.KILL_BEFORE, Fault.KILL_AFTER}:
            while not strike.held:
                await asyncio.sleep(0.005)
            process.kill()
            process = await _begun(orders)
        await asyncio.Event().wait()
    finally:
        process.kill()


async def _begun(orders: Orders) -> Process:
    """A process that runs; none when cancelled meanwhile."""
    beginning = asyncio.create_task(asyncio.to_thread(Process, orders))
    try:
        return await asyncio.shield(beginning)
    except asyncio.CancelledError:
        (await beginning).kill()
        raise


async def _watched(
    stage: Stage, strike: _Strike, story: Story, call: str, fault: Fault | None, orders: Orders
) -> Outcome:
    end: End | None = None
    expected = endings(story, call, fault)

    def ended(view: View) -> bool:
        nonlocal end
        end = end_of(view, "shop:2")
        missed = end is ENDING_OF[story] and strike.asked is None  # the call will not come any more
        return end in expected or missed

    told = ""
    try:
        await stage.until(
            "Phoenix knows it", lambda view: view.state == "Idle" or view.rollout is None, STARTS_WITHIN
        )
        await stage.release()
        await stage.until(f"it ends as one of {', '.join(expected)}", ended, ENDS_WITHIN * slowdown())
    except AssertionError as error:
        log = orders.log.read_text("utf-8")[-6000:] if orders.log.exists() else ""
        told = f"{error}\n{log}"
        end = None
    strike.ended = True
    owners = fault is Fault.DELETION
    broken = violations(stage.changes, View(NAME, REPLICAS, owners=owners), evidence=story is Story.GOOD)
    return Outcome(end, broken, tuple(strike.calls), strike.asked is not None, told)

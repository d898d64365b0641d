"""Never two writers: leaders killed, stopped, cut off, with clocks that jump; and a Lease that is deleted."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.cluster.kube_churn import until
from tests.cluster.kubectl import Cluster
from tests.faults.kube_leader import LEASE, LEDGER, TIMING, write

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.errors import Changed
from phoenix_orch.kube.fencing import NotLeading
from phoenix_orch.kube.leader import LeaderElector, Leadership, boot_time
from phoenix_orch.kube.lease import LeaseTiming, Term
from phoenix_orch.kube.patches import merge_patch
from phoenix_orch.kube.resources import CONFIG_MAPS, LEASES, PODS, Object
from phoenix_orch.testing.api_faults import WRITES, Answer, Hang, Reset
from phoenix_orch.testing.faulty_api_server import FaultyApiServer

pytestmark = pytest.mark.cluster

CALM = LeaseTiming(duration=8, renew_deadline=6.5, retry=0.5)
"""For leaders that are to stay, also on a machine with much else to do."""


@pytest.fixture
async def ledger(kube: KubeClient) -> None:
    await kube.create(CONFIG_MAPS, {"metadata": {"name": LEDGER}, "data": {"lines": ""}})
    # as the manifests make it: the first leader need not wait for one that may not know of a deletion
    await kube.create(LEASES, {"metadata": {"name": LEASE}, "spec": {"leaseTransitions": 0}})


async def lines(kube: KubeClient) -> list[tuple[Term, str]]:
    text = (await kube.get(CONFIG_MAPS, LEDGER))["data"]["lines"]
    pairs = (line.split() for line in text.splitlines())
    return [(as_term(term), who) for term, who in pairs]


def as_term(text: str) -> Term:
    created, _, transitions = text.partition("/")
    return Term(created, int(transitions))


def never_two(written: list[tuple[Term, str]]) -> None:
    """Terms only rise, and each has one writer: no one wrote after a later one had."""
    assert [term for term, _ in written] == sorted(term for term, _ in written)
    assert len(dict(written)) == len(set(written))


async def written_by(kube: KubeClient, who: str, more_than: int = 0) -> None:
    async with asyncio.timeout(40):
        while sum(name == who for _, name in await lines(kube)) <= more_than:
            await asyncio.sleep(0.1)


class Candidate:
    """One in this process, over its own way to the API server, with a clock that a test may push."""

    def __init__(self, client: KubeClient, who: str, timing: LeaseTiming) -> None:
        self.who = who
        self.jump = 0.0
        self.terms: list[Leadership] = []
        self.works = False
        self.client = client
        elector = LeaderElector(client, LEASE, identity=who, timing=timing, clock=self.clock)
        self.running = asyncio.create_task(elector.run(self._work))

    def clock(self) -> float:
        return boot_time() + self.jump

    async def _work(self, leadership: Leadership) -> None:
        self.terms.append(leadership)
        self.works = True
        try:
            await write(self.client, leadership, self.who)
        finally:
            self.works = False

    async def stop(self) -> None:
        self.running.cancel()
        await asyncio.wait([self.running])


@asynccontextmanager
async def candidate(
    kube: KubeClient, who: str, timing: LeaseTiming = TIMING
) -> AsyncIterator[tuple[Candidate, FaultyApiServer]]:
    async with FaultyApiServer(kube.target) as server, KubeClient(server.target, component=who) as client:
        made = Candidate(client, who, timing)
        try:
            yield made, server
        finally:
            await made.stop()


@pytest.fixture
async def process(cluster: Cluster, kube: KubeClient) -> AsyncIterator[list[Process]]:
    """Two candidates in processes of their own."""
    words = [sys.executable, "-m", "tests.faults.kube_leader", str(cluster.kubeconfig), kube.namespace]
    started = [await asyncio.create_subprocess_exec(*words, stdout=PIPE) for _ in range(2)]
    yield started
    for one in started:
        if one.returncode is None:
            one.send_signal(signal.SIGCONT)
            one.kill()
        await one.communicate()


async def leader_of(kube: KubeClient, processes: list[Process]) -> tuple[Process, Process]:
    """The one that writes, and the other."""
    async with asyncio.timeout(40):
        while not (found := await lines(kube)):
            await asyncio.sleep(0.1)
    first, second = processes
    return (first, second) if str(first.pid) == found[-1][1] else (second, first)


async def test_a_killed_leader_is_followed(ledger: None, kube: KubeClient, process: list[Process]) -> None:
    leader, other = await leader_of(kube, process)
    leader.kill()
    await written_by(kube, str(other.pid))
    never_two(await lines(kube))


async def test_a_leader_that_is_stopped_in_order_is_followed_at_once(
    ledger: None, kube: KubeClient, process: list[Process]
) -> None:
    leader, other = await leader_of(kube, process)
    leader.terminate()
    await leader.wait()
    spec = (await kube.get(LEASES, LEASE))["spec"]
    assert spec["leaseDurationSeconds"] == 1 or spec["holderIdentity"]  # given back, or taken already
    await written_by(kube, str(other.pid))
    never_two(await lines(kube))


async def test_a_process_that_slept_wakes_up_as_nobody(
    ledger: None, kube: KubeClient, process: list[Process]
) -> None:
    """SIGSTOP in the middle of its work, longer than the Lease; then it goes on, and does not write."""
    leader, other = await leader_of(kube, process)
    leader.send_signal(signal.SIGSTOP)
    await written_by(kube, str(other.pid), more_than=3)
    leader.send_signal(signal.SIGCONT)
    assert leader.stdout is not None
    async with asyncio.timeout(20):
        while await leader.stdout.readline() != b"lost\n":
            pass
    await written_by(kube, str(other.pid), more_than=8)
    written = await lines(kube)
    never_two(written)
    assert written[-1][1] == str(other.pid)


async def test_a_leader_that_nothing_disturbs_stays(ledger: None, kube: KubeClient) -> None:
    async with candidate(kube, "one", CALM) as (one, _):
        await written_by(kube, "one")
        async with candidate(kube, "two", CALM) as (two, server):
            gone_by = boot_time() + 2 * CALM.duration
            while boot_time() < gone_by or server.count("get", "leases") < 5:
                await written_by(kube, "one", more_than=len(await lines(kube)))
            assert (len(one.terms), two.terms) == (1, [])


async def test_a_leader_stays_though_ordinary_calls_fill_their_lane(ledger: None, kube: KubeClient) -> None:
    async with candidate(kube, "one", CALM) as (one, server):
        await written_by(kube, "one")
        server.inject(Hang(), resource="pods", times=10**6)
        calls = [asyncio.create_task(one.client.get(PODS, f"p{number}")) for number in range(300)]
        async with candidate(kube, "two", CALM) as (two, _):
            renewed = server.count("update", "leases") + 2 * CALM.duration / CALM.retry
            async with asyncio.timeout(60):
                while server.count("update", "leases") < renewed and not two.works:
                    await asyncio.sleep(0.05)
            assert (len(one.terms), two.terms) == (1, [])
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


async def test_a_leader_that_is_cut_off_stops_before_another_begins(ledger: None, kube: KubeClient) -> None:
    async with candidate(kube, "one") as (one, server):
        await written_by(kube, "one")
        async with candidate(kube, "two") as (two, _):
            await server.refuse()
            while not two.works:
                assert one.works or not one.terms[-1].holds
                await asyncio.sleep(0.01)
            assert not one.works
            assert not one.terms[-1].holds
            await written_by(kube, "two")
            await server.listen()
            await written_by(kube, "two", more_than=10)
            never_two(await lines(kube))


@pytest.mark.parametrize("fault", [Hang(), Hang(done=True), Reset(done=True), Answer(500)], ids=repr)
async def test_a_leader_whose_renewals_fail_stops_or_goes_on_and_never_twice(
    ledger: None, kube: KubeClient, fault: Hang | Reset | Answer
) -> None:
    """A few are survived; renewals that land unheard do not make it forget that it leads."""
    async with candidate(kube, "one") as (one, server), candidate(kube, "two") as (two, _):
        await until(lambda: one.works or two.works)
        rule = server.inject(fault, verb=WRITES, resource="leases", times=4)
        if two.works:
            await two.stop()
            await until(lambda: one.works)
        await until(lambda: rule.hits >= 4 or two.works)
        async with asyncio.timeout(40):
            while len(await lines(kube)) < 20:
                await asyncio.sleep(0.1)
        never_two(await lines(kube))


@pytest.mark.parametrize("jump", [-3600.0, 3600.0], ids=["back", "ahead"])
async def test_a_clock_that_jumps(ledger: None, kube: KubeClient, jump: float) -> None:
    """Ahead: as after a sleep of the machine, it stops. Back: nobody sets this clock; yet no two write."""
    async with candidate(kube, "one") as (one, server):
        await written_by(kube, "one")
        async with candidate(kube, "two") as (two, _):
            await until(lambda: one.works)
            one.jump = jump
            if jump > 0:
                with pytest.raises(NotLeading):
                    one.terms[0].remaining()
                await until(lambda: len(one.terms) > 1 or two.works)
            await server.refuse()
            await until(lambda: two.works)
            await written_by(kube, "two", more_than=3)
            await server.listen()
            await written_by(kube, "two", more_than=6)
            assert not one.running.done()
            never_two(await lines(kube))


async def test_a_lease_that_is_deleted_makes_no_second_leader(ledger: None, kube: KubeClient) -> None:
    async with candidate(kube, "one") as (one, _), candidate(kube, "two") as (two, _):
        await until(lambda: one.works or two.works)
        async with asyncio.timeout(40):
            while not await lines(kube):
                await asyncio.sleep(0.05)
        before = (await lines(kube))[-1][0]
        await kube.delete(LEASES, LEASE)
        while not (after := [term for term, _ in await lines(kube) if term > before]):
            assert not (one.works and two.works)
            await asyncio.sleep(0.02)
        assert after[0].created > before.created or after[0].transitions > before.transitions
        never_two(await lines(kube))


async def test_the_api_server_away_for_all(ledger: None, kube: KubeClient) -> None:
    """Nobody leads, nobody writes; afterwards one does."""
    async with candidate(kube, "one") as (one, first), candidate(kube, "two") as (two, second):
        await until(lambda: one.works or two.works)
        await first.refuse()
        await second.refuse()
        await until(lambda: not one.works and not two.works)
        count = len(await lines(kube))
        await first.listen()
        await second.listen()
        async with asyncio.timeout(40):
            while len(await lines(kube)) <= count:
                await asyncio.sleep(0.1)
        never_two(await lines(kube))


async def test_work_that_ends_gives_the_lease_back(kube: KubeClient) -> None:
    await kube.create(LEASES, {"metadata": {"name": LEASE}})
    terms = []

    async def work(leadership: Leadership) -> None:
        terms.append(leadership.term)

    for _ in range(2):
        async with asyncio.timeout(TIMING.duration - 0.5):
            await LeaderElector(kube, LEASE, timing=TIMING).run(work)
    assert terms[0] < terms[1]
    spec = (await kube.get(LEASES, LEASE))["spec"]
    assert spec["holderIdentity"] == ""


async def test_what_the_work_raises_is_raised_and_the_lease_given_back(kube: KubeClient) -> None:
    await kube.create(LEASES, {"metadata": {"name": LEASE}})

    async def work(_: Leadership) -> None:
        raise Retryable("a defect")

    with pytest.raises(Retryable, match="a defect"):
        await LeaderElector(kube, LEASE, timing=TIMING).run(work)
    assert (await kube.get(LEASES, LEASE))["spec"]["holderIdentity"] == ""


async def test_a_late_write_is_refused_by_the_version(ledger: None, kube: KubeClient) -> None:
    """The request that hung in a network for longer than any clock says."""
    seen: Object = await kube.get(CONFIG_MAPS, LEDGER)
    version = seen["metadata"]["resourceVersion"]
    await kube.patch(CONFIG_MAPS, LEDGER, merge_patch({"data": {"lines": "later"}}, version=version))
    with pytest.raises(Changed):
        await kube.patch(CONFIG_MAPS, LEDGER, merge_patch({"data": {"lines": "late"}}, version=version))
    assert (await kube.get(CONFIG_MAPS, LEDGER))["data"]["lines"] == "later"

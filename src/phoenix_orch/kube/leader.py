"""One leader among several processes, by a Lease (`lease.py` has the decisions).

The work of a leader runs as a task. When leadership cannot be renewed in time the task is cancelled, and
writes through `client.fenced(leadership.remaining)` are refused from that moment on, also in a process that
was stopped meanwhile and knows nothing of it yet. What is already under way ends before another may act.

The last gap no clock can close: a request that hangs in a network for longer than all of this. For it every
write is conditional on a version (`patches.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog

from phoenix_orch.kernel.errors import NotFound, PhoenixError
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.errors import Changed
from phoenix_orch.kube.fencing import NotLeading
from phoenix_orch.kube.lease import LeaseTiming, Record, Seen, Take, Term, Wait, decide, observe
from phoenix_orch.kube.resources import LEASES, Object
from phoenix_orch.runtime.faults import Faults

_RELEASE_PATIENCE = 3.0


def boot_time() -> float:
    """Seconds of a clock that nobody sets and that goes on while the machine sleeps (Linux)."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def new_identity() -> str:
    """A name of this process that no other has, and none had before."""
    return f"{socket.gethostname()}_{secrets.token_hex(4)}"


class Leadership:
    """One term in office, as the leader's work knows it."""

    def __init__(self, term: Term, until: float, clock: Callable[[], float]) -> None:
        self.term = term
        self._until = until
        self._clock = clock

    def remaining(self) -> float:
        """Seconds for which this process surely leads. Raises NotLeading when there are none."""
        left = self._until - self._clock()
        if left <= 0:
            raise NotLeading("another process may lead by now", remedy="stop; nothing was written")
        return left

    @property
    def holds(self) -> bool:
        return self._clock() < self._until

    def extend(self, until: float) -> None:
        self._until = max(self._until, until)

    def end(self) -> None:
        self._until = float("-inf")


Work = Callable[[Leadership], Awaitable[None]]


class LeaderElector:
    """Stands for election again and again; runs `work` while it leads."""

    def __init__(
        self,
        client: KubeClient,
        name: str,
        namespace: str | None = None,
        *,
        identity: str | None = None,
        timing: LeaseTiming = LeaseTiming(),  # noqa: B008 - a frozen value
        clock: Callable[[], float] = boot_time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.identity = identity or new_identity()
        self._client = client.urgent
        self._name = name
        self._namespace = client.namespace if namespace is None else namespace
        self._timing = timing
        self._clock = clock
        self._chance = chance
        self._lease: Object | None = None
        self._log = structlog.get_logger("phoenix.kube").bind(lease=name, identity=self.identity)
        self._faults = Faults(self._log)

    async def run(self, work: Work) -> None:
        """Lead when it can be, until `work` returns or this is cancelled; then give the Lease back.

        When leadership is lost `work` is cancelled and awaited, and this stands again. What `work`
        raises is raised here.
        """
        seen: Seen | None = None
        while True:
            seen, leadership, probation = await self._elected(seen)
            self._log.info("leads", term=str(leadership.term))
            if await self._in_office(leadership, work, probation):
                return
            self._log.warning("no longer leads", term=str(leadership.term))

    async def _elected(self, seen: Seen | None) -> tuple[Seen, Leadership, float]:
        while True:
            try:
                seen = await self._look(seen)
                match decide(seen, self.identity, self._clock(), self._timing):
                    case Take() as take:
                        sent = self._clock()
                        record = await self._write(take.transitions, self.identity, self._timing.duration)
                        until = sent + self._timing.renew_deadline
                        self._faults.mended("lease")
                        return seen, Leadership(record.term, until, self._clock), take.probation
                    case Wait(seconds):
                        wait = min(seconds, self._jittered())
            except Changed:
                wait = self._jittered()
            except PhoenixError as error:
                self._faults.tell("lease", error=error)
                wait = self._jittered()
            await asyncio.sleep(max(0.01, wait))

    async def _look(self, seen: Seen | None) -> Seen:
        try:
            self._lease = await self._client.get(LEASES, self._name, self._namespace)
        except NotFound:
            self._lease = None
        record = Record.of(self._lease) if self._lease else None
        return observe(seen, record, self._clock())

    async def _in_office(self, leadership: Leadership, work: Work, probation: float) -> bool:
        """Whether the work ended by itself. Leadership is renewed until it has, also when cancelled."""
        acts_from = self._clock() + probation
        working = asyncio.ensure_future(self._after(probation, leadership, work))
        renewing = asyncio.ensure_future(self._renew_until_lost(leadership))
        try:
            await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
            done = working.done()
        finally:
            working.cancel()
            await asyncio.wait({working})
            renewing.cancel()
            await asyncio.wait({renewing})
            if leadership.holds and self._clock() >= acts_from:
                await self._release()
            leadership.end()
        try:
            await working
        except asyncio.CancelledError:
            return False
        except NotLeading:
            return False  # a fence told the work before the Lease told us
        return done

    async def _after(self, probation: float, leadership: Leadership, work: Work) -> None:
        if probation:
            self._log.info("the lease is new; waits for a leader that may not know yet", seconds=probation)
            await asyncio.sleep(probation)
        leadership.remaining()
        await work(leadership)

    async def _renew_until_lost(self, leadership: Leadership) -> None:
        """Returns when leadership is lost."""
        while leadership.holds:
            await asyncio.sleep(min(self._timing.retry, self._left(leadership)))
            try:
                async with asyncio.timeout(self._left(leadership)):
                    if not await self._renew(leadership):
                        break
                self._faults.mended("lease")
            except TimeoutError:
                break
            except PhoenixError as error:
                self._faults.tell("lease", error=error)
        leadership.end()

    async def _renew(self, leadership: Leadership) -> bool:
        """Whether nobody else has the Lease."""
        sent = self._clock()
        try:
            await self._write(leadership.term.transitions, self.identity, self._timing.duration)
        except NotFound:
            return False
        except Changed:
            await self._look(None)
            record = Record.of(self._lease) if self._lease else None
            return record is not None and (record.holder, record.term) == (self.identity, leadership.term)
        leadership.extend(sent + self._timing.renew_deadline)
        return True

    async def _release(self) -> None:
        """Say that nobody leads, so that the next one need not wait. Best effort."""
        assert self._lease is not None
        transitions = Record.of(self._lease).transitions
        with contextlib.suppress(PhoenixError, TimeoutError):
            async with asyncio.timeout(_RELEASE_PATIENCE):
                await self._write(transitions, "", 1)

    async def _write(self, transitions: int, holder: str, duration: int) -> Record:
        """Write over what was last read, or make it. Raises Changed when somebody wrote in between."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")  # for people
        before = (self._lease or {}).get("spec") or {}
        same = before.get("leaseTransitions") == transitions
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": duration,
            "leaseTransitions": transitions,
            "acquireTime": before["acquireTime"] if same and "acquireTime" in before else now,
            "renewTime": now,
        }
        if self._lease is None:
            lease: Object = {"metadata": {"name": self._name}, "spec": spec}
            self._lease = await self._client.create(LEASES, lease, self._namespace)
        else:
            lease = {**self._lease, "spec": spec}
            self._lease = await self._client.replace(LEASES, lease, self._namespace)
        return Record.of(self._lease)

    def _left(self, leadership: Leadership) -> float:
        try:
            return leadership.remaining()
        except NotLeading:
            return 0.0

    def _jittered(self) -> float:
        return self._timing.retry * (0.8 + 0.4 * self._chance())

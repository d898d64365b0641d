"""Pictures of rollouts and services, put together from store, router and workload. Changes nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from phoenix_orch.health_validator.observation import Observation, Verdict
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import Invalid, NotFound, PhoenixError, Retryable
from phoenix_orch.orchestrator import names
from phoenix_orch.orchestrator.rates import RateMeter
from phoenix_orch.orchestrator.views import Fault, LogPage, RolloutEvent, RolloutView, ServiceView, of_rollout
from phoenix_orch.rollout.remaining import time_left
from phoenix_orch.rollout.spec import Step
from phoenix_orch.rollout.status import RESTING, Event, Release, Revision, Rollout, under_judgement
from phoenix_orch.rollout.store.store import PagedStore
from phoenix_orch.traffic.router import TrafficRouter
from phoenix_orch.workload.workload import WorkloadView

T = TypeVar("T")


class Logs(Protocol):
    """Reads what instances wrote."""

    async def instances(self, service: str) -> tuple[str, ...]:
        """Instances with a log, oldest first."""
        ...

    async def page(
        self, service: str, *, instance: str | None, lines: int, after: Mapping[str, int]
    ) -> LogPage:
        """The last `lines` lines, or those after the given offsets."""
        ...


class Addresses(Protocol):
    """Knows where users call a route."""

    def address(self, route: str) -> str: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Around:
    """What the store keeps beside the record of a rollout."""

    seen: tuple[int, str]
    """Version of the record and mark of the verdict that this is about."""
    steps: tuple[Step, ...]
    versions: dict[str, str]
    verdict: tuple[Verdict, str] | None
    meter: RateMeter


class Reading:
    """The reading half of the operations port."""

    def __init__(
        self,
        *,
        store: PagedStore,
        router: TrafficRouter,
        workload: WorkloadView,
        clock: Clock,
        addresses: Addresses,
        logs: Logs,
        info: Callable[[], Awaitable[dict[str, Any]]],
        speed: float,
        faults: Callable[[str], Mapping[str, Exception]] = lambda _: {},
    ) -> None:
        """`faults`: what keeps a rollout from being acted on now, by what is tried."""
        self._store = store
        self._router = router
        self._running = workload
        self._clock = clock
        self._addresses = addresses
        self._logs = logs
        self._info = info
        self._speed = speed
        self._faults = faults
        self._meters: dict[str, tuple[int, RateMeter]] = {}
        self._known: dict[str, _Around] = {}
        self._given: dict[str, tuple[Any, RolloutView]] = {}
        """The last view of each rollout, and what it was made of."""

    async def info(self) -> dict[str, Any]:
        return await self._info()

    async def views(self, *, after: str = "", limit: int | None = None) -> list[RolloutView]:
        found = await self._store.page(after=after, limit=limit)
        if not after and limit is None:
            self._forget_all_but({rollout.name for rollout, _ in found})
        return [await self._view(rollout, mark) for rollout, mark in found]

    def _forget_all_but(self, names: set[str]) -> None:
        self._meters = {name: meter for name, meter in self._meters.items() if name in names}
        self._known = {name: around for name, around in self._known.items() if name in names}
        self._given = {name: given for name, given in self._given.items() if name in names}

    async def view(self, name: str) -> RolloutView:
        return await self._view(*await names.marked(self._store, name))

    async def events(self, name: str, limit: int) -> list[Event]:
        """By their time: what happened while Phoenix was dead is learnt of later."""
        await names.rollout(self._store, name)
        return sorted(await self._store.events(name, limit=limit), key=lambda event: event.at)

    async def all_events(self, limit: int) -> list[RolloutEvent]:
        found: list[RolloutEvent] = []
        for rollout in await self._store.rollouts():
            newest = await self._store.events(rollout.name, limit=limit)
            found += [of_rollout(event, rollout.name) for event in newest]
        return sorted(found, key=lambda event: event.at)[-limit:]

    async def history(self, name: str, limit: int) -> list[Release]:
        await names.rollout(self._store, name)
        return await self._store.history(name, limit=limit)

    async def revisions(self, name: str) -> list[Revision]:
        await names.rollout(self._store, name)
        return await self._store.revisions(name)

    async def observations(self, name: str, since: datetime | None, limit: int) -> list[Observation]:
        await names.rollout(self._store, name)
        return await self._store.observations(name, since=since, limit=limit)

    async def changes(self, *, timeout: timedelta) -> AsyncGenerator[str]:  # noqa: ASYNC109 - the port's word
        async for name in self._store.watch(timeout=timeout):
            yield name

    async def _view(self, rollout: Rollout, mark: str) -> RolloutView:
        """`mark`: of the store, changes with the verdict."""
        now = self._clock.now()
        around = await self._around(rollout, mark)
        traffic = await or_none(self._router.read(rollout.route))
        seen = await self._router.observe(rollout.route)
        workload = await or_none(self._running.state(rollout.service))
        faults = tuple(_fault(at, error) for at, error in sorted(self._faults(rollout.name).items()))
        rates = around.meter.rates(now)
        surroundings = (around, traffic, seen, workload, faults, rates)
        known = self._given.get(rollout.name)
        if known is not None and rollout.status.state in RESTING and known[0] == surroundings:
            return known[1].model_copy(update={"at": now})
        canary, stable = rates
        view = RolloutView(
            at=now,
            rollout=rollout,
            steps=around.steps,
            versions=around.versions,
            traffic=traffic,
            seen=seen,
            workload=workload,
            verdict=_shown(rollout, around.verdict),
            canary=canary,
            stable=stable,
            time_left=time_left(rollout.spec, rollout.status, now, _of_this_release(rollout, around.verdict)),
            speed=self._speed,
            faults=faults,
        )
        self._given[rollout.name] = (surroundings, view)
        return view

    async def _around(self, rollout: Rollout, mark: str) -> _Around:
        """What the store keeps beside a rollout: read once for each change, but for the observations of one
        that moves."""
        known = self._known.get(rollout.name)
        if known is None or known.seen != (rollout.version, mark):
            verdict = await self._store.verdict(rollout.name)
            kept = await self._store.revisions(rollout.name)
            known = _Around(
                seen=(rollout.version, mark),
                steps=rollout.spec.steps(),
                versions={revision.revision: revision.version for revision in kept},
                verdict=verdict,
                meter=await self._meter(rollout),
            )
            self._known[rollout.name] = known
        elif rollout.status.state not in RESTING:
            await self._meter(rollout)
        return known

    async def _meter(self, rollout: Rollout) -> RateMeter:
        """The running sums of this release, brought up to date from the observation log."""
        release = rollout.status.release
        number, meter = self._meters.get(rollout.name, (-1, RateMeter(rollout.spec.evidence.window)))
        if number != release:
            meter = RateMeter(rollout.spec.evidence.window, last=rollout.status.release_started)
            self._meters[rollout.name] = (release, meter)
        meter.feed(await self._store.observations(rollout.name, since=meter.last, limit=20_000))
        return meter

    async def services(self) -> list[ServiceView]:
        return [await self._service(rollout) for rollout in await self._store.rollouts()]

    async def service(self, name: str) -> ServiceView:
        return await self._service(await names.rollout_of(self._store, name))

    async def logs(self, name: str, *, instance: str | None, lines: int, after: dict[str, int]) -> LogPage:
        await names.rollout_of(self._store, name)
        known = await self._logs.instances(name)
        if instance is not None and instance not in known:
            raise NotFound(
                f"there is no log of an instance {instance!r} of {name}",
                remedy=f"instances with a log: {', '.join(known) or 'none'}",
            )
        return await self._logs.page(name, instance=instance, lines=lines, after=after)

    async def _service(self, rollout: Rollout) -> ServiceView:
        stable = rollout.status.stable or rollout.target
        kept = {revision.revision: revision for revision in await self._store.revisions(rollout.name)}
        workload = await or_none(self._running.state(rollout.service))
        return ServiceView(
            name=rollout.service,
            version=kept[stable].version if stable in kept else "",
            revision=stable,
            replicas=rollout.replicas,
            ready=len(workload.ready(stable)) if workload is not None else 0,
            route=self._addresses.address(rollout.route),
            rollout=rollout.name,
            workload=workload,
        )


def _shown(rollout: Rollout, found: tuple[Verdict, str] | None) -> Verdict | None:
    """The last verdict; while something is judged, none that was about another release."""
    if found is None or under_judgement(rollout.status) is None:
        return found[0] if found is not None else None
    return _of_this_release(rollout, found)


def _of_this_release(rollout: Rollout, found: tuple[Verdict, str] | None) -> Verdict | None:
    """The verdict, where it is about what is being released now."""
    status = rollout.status
    if found is None or found[0].revision != under_judgement(status):
        return None
    started = status.release_started
    return found[0] if started is None or found[0].at >= started else None


def _fault(at: str, error: Exception) -> Fault:
    if isinstance(error, PhoenixError):
        return Fault(at=at, message=error.message, remedy=error.remedy)
    return Fault(at=at, message=str(error) or type(error).__name__)


async def or_none(call: Awaitable[T]) -> T | None:
    """The answer, or None where it cannot be had just now."""
    try:
        return await call
    except (Retryable, Invalid):
        return None  # NotFound is Invalid; so is a traffic object that is not ours

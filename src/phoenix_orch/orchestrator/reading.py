"""Pictures of rollouts and services, put together from store, router and workload. Changes nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from phoenix_orch.health_validator.observation import Observation, Verdict
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import Invalid, NotFound, PhoenixError, Retryable
from phoenix_orch.orchestrator import names
from phoenix_orch.orchestrator.rates import RateMeter
from phoenix_orch.orchestrator.views import Fault, LogPage, RolloutEvent, RolloutView, ServiceView, of_rollout
from phoenix_orch.rollout.remaining import time_left
from phoenix_orch.rollout.status import Event, Release, Revision, Rollout, under_judgement
from phoenix_orch.rollout.store.store import RolloutStore
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


class Reading:
    """The reading half of the operations port."""

    def __init__(
        self,
        *,
        store: RolloutStore,
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

    async def info(self) -> dict[str, Any]:
        return await self._info()

    async def views(self, *, after: str = "", limit: int | None = None) -> list[RolloutView]:
        rollouts = await self._store.rollouts()
        for gone in set(self._meters) - {rollout.name for rollout in rollouts}:
            del self._meters[gone]
        wanted = [rollout for rollout in rollouts if rollout.name > after][:limit]
        return [await self._view(rollout) for rollout in wanted]

    async def view(self, name: str) -> RolloutView:
        return await self._view(await names.rollout(self._store, name))

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

    async def _view(self, rollout: Rollout) -> RolloutView:
        now = self._clock.now()
        verdict = await self._store.verdict(rollout.name)
        kept = await self._store.revisions(rollout.name)
        canary, stable = (await self._meter(rollout)).rates(now)
        return RolloutView(
            at=now,
            rollout=rollout,
            steps=rollout.spec.steps(),
            versions={revision.revision: revision.version for revision in kept},
            traffic=await or_none(self._router.read(rollout.route)),
            seen=await self._router.observe(rollout.route),
            workload=await or_none(self._running.state(rollout.service)),
            verdict=_shown(rollout, verdict),
            canary=canary,
            stable=stable,
            time_left=time_left(rollout.spec, rollout.status, now, _of_this_release(rollout, verdict)),
            speed=self._speed,
            faults=tuple(_fault(at, error) for at, error in sorted(self._faults(rollout.name).items())),
        )

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

"""The guide's verification steps after a promotion and after a rollback.

1. health endpoints of every instance of stable, 2. metrics back in line, 3. log patterns, 4. critical
paths. Each becomes a line of the result; the result goes into the status and the history.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

import httpx
from pydantic import ValidationError

from phoenix_orch.health_validator import histogram
from phoenix_orch.health_validator.observation import Arm
from phoenix_orch.kernel import placeholders
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import NotFound, PhoenixError, Retryable
from phoenix_orch.kernel.masking import masked_url
from phoenix_orch.kernel.text import counted
from phoenix_orch.kernel.units import format_duration, format_ratio
from phoenix_orch.rollback_controller.checks import Route, http_failure, surroundings
from phoenix_orch.rollout.spec import Limits
from phoenix_orch.rollout.status import Rollout, Verification, VerifyStep
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.workload.spec import Health, Template
from phoenix_orch.workload.workload import Instance, InstanceState, WorkloadView

LINE_SHOWN = 200
"""Characters of a bad line of the log that go into the result."""
SLOW_SHARE = {"p95": 0.05, "p99": 0.01}
RETRY_PAUSE = 0.5
"""Seconds between two tries while something that comes back by itself is away."""
HEALTH_PATIENCE = 10.0
"""Seconds an instance has to answer: one that died is replaced, in real time however fast the clock runs."""
TOLD_ABSENCE = 1.0
"""Seconds without a ready instance from which on they are told."""
PATH_PATIENCE = 3.0
"""Seconds a critical path has to work: a router that died is back by then."""


class LogReader(Protocol):
    """Looks for patterns in what instances of one revision write."""

    async def mark(self, service: str, revision: str) -> dict[str, int]:
        """A place in the logs: now."""
        ...

    async def matches(
        self, service: str, revision: str, since: Mapping[str, int] | None, patterns: Sequence[str]
    ) -> list[str]:
        """Lines that match one of `patterns`, written after `since` (None: all there is)."""
        ...


ArmReader = Callable[[Rollout, str, timedelta], Awaitable[Arm | None]]
"""What `revision` of a rollout did during the next `window`; None when that cannot be known."""


class Verifier:
    """Runs the steps for one rollout at a time; `__call__` fits the controller's `Verifier`."""

    def __init__(
        self,
        store: RolloutStore,
        workload: WorkloadView,
        clock: Clock,
        logs: LogReader,
        arm: ArmReader,
        *,
        route: Callable[[str], Route],
    ) -> None:
        """`route` says how a route is called."""
        self._store = store
        self._workload = workload
        self._clock = clock
        self._logs = logs
        self._arm = arm
        self._route = route

    async def __call__(self, rollout: Rollout, kind: str) -> None:
        """Verify `rollout.status.stable` and publish the result, however long the store is away."""
        revision = rollout.status.stable or ""
        mark = await self._mark(rollout, revision) if kind == "rollback" else None
        metrics = await self._metrics(rollout, kind, revision)
        steps = (
            await self._health(rollout, revision),
            metrics,
            await self._log_patterns(rollout, revision, mark),
            *await self._critical_paths(rollout),
        )
        result = Verification(
            kind=kind,
            revision=revision,
            release=rollout.status.release,
            at=self._clock.now(),
            steps=steps,
        )
        while True:
            try:
                await self._store.put_verification(rollout.name, result)
            except Retryable:
                await asyncio.sleep(RETRY_PAUSE)
            except NotFound:
                return  # the rollout was removed; nobody waits for the result
            else:
                return

    async def _mark(self, rollout: Rollout, revision: str) -> dict[str, int] | None:
        try:
            return await self._logs.mark(rollout.service, revision)
        except (PhoenixError, OSError):
            return None  # all there is will be searched

    async def _health(self, rollout: Rollout, revision: str) -> VerifyStep:
        """All instances at once answer, now or within the patience that a replacement needs."""
        name = "health endpoints"
        give_up = time.monotonic() + HEALTH_PATIENCE
        while True:
            try:
                health = (await self._template(rollout.name, revision)).health
                state = await self._workload.state(rollout.service)
            except PhoenixError as error:
                return VerifyStep(name=name, ok=False, detail=str(error))
            instances = [i for i in state.of(revision) if i.state is not InstanceState.DRAINING]
            bad = await self._unhealthy(instances, health)
            if not bad and len(instances) >= rollout.replicas:
                return VerifyStep(name=name, ok=True, detail=f"{len(instances)} of {len(instances)} answer")
            if time.monotonic() > give_up:
                few = f"{len(instances)} of {rollout.replicas} instances run"
                return VerifyStep(name=name, ok=False, detail="; ".join(bad) or few)
            await asyncio.sleep(RETRY_PAUSE)

    async def _template(self, rollout: str, revision: str) -> Template:
        """The template of a revision, however long the store is away. Raises NotFound."""
        while True:
            try:
                kept = {found.revision: found for found in await self._store.revisions(rollout)}
            except Retryable:
                await asyncio.sleep(RETRY_PAUSE)
                continue
            if revision not in kept:
                raise NotFound(
                    f"revision {revision} of {rollout} is not in the store",
                    remedy="apply the configuration that describes it again",
                )
            return Template.model_validate(kept[revision].template)

    async def _unhealthy(self, instances: Sequence[Instance], health: Health) -> list[str]:
        """What is wrong with the answers of those instances that do not answer well."""
        async with httpx.AsyncClient(trust_env=False) as client:
            answers = await asyncio.gather(
                *(
                    _health_failure(client, f"http://127.0.0.1:{i.port}{health.path}", health)
                    for i in instances
                )
            )
        return [answer for answer in answers if answer is not None]

    async def _metrics(self, rollout: Rollout, kind: str, revision: str) -> VerifyStep:
        """The revision's own numbers against the limits of the last step.

        A promotion waits for requests, over as many windows as it takes (R1); after a rollback one
        window is watched, and silence is reported as what it is.
        """
        window, watched = rollout.spec.verify.window, timedelta(0)
        total: Arm | None = None
        while True:
            arm = await self._window(rollout, revision, window)
            if arm is not None:
                total, watched = arm if total is None else _sum(total, arm), watched + window
            enough = total is not None and _enough(total, rollout.spec.policy.min_requests)
            if enough or kind == "rollback":
                break
        limits = rollout.spec.steps()[-1].limits
        found = judge_arm(total if enough else None, limits, max(window, watched))
        return found if total is None else _with_absence(found, total.unserved)

    async def _window(self, rollout: Rollout, revision: str, window: timedelta) -> Arm | None:
        try:
            return await self._arm(rollout, revision, window)
        except PhoenixError:
            await asyncio.sleep(RETRY_PAUSE)
            return None

    async def _log_patterns(self, rollout: Rollout, revision: str, mark: dict[str, int] | None) -> VerifyStep:
        name, patterns = "log patterns", rollout.spec.verify.logs.bad
        if not patterns:
            return VerifyStep(name=name, ok=True, detail="none configured")
        try:
            found = await self._logs.matches(rollout.service, revision, mark, patterns)
        except (PhoenixError, OSError) as error:
            return VerifyStep(name=name, ok=False, detail=str(error))
        if found:
            first = await self._harmless(rollout, revision, found[0])
            return VerifyStep(name=name, ok=False, detail=f"{counted(len(found), 'line')}{first}")
        return VerifyStep(name=name, ok=True, detail=f"none of {len(patterns)} patterns found")

    async def _harmless(self, rollout: Rollout, revision: str, line: str) -> str:
        """A line of the service without its secrets; nothing of it where these cannot be known."""
        try:
            template = await self._template(rollout.name, revision)
        except (PhoenixError, ValidationError):
            return ""
        known = surroundings(rollout, revision, template).secrets
        return f", first: {known.harmless(line)[:LINE_SHOWN]}" if known is not None else ""

    async def _critical_paths(self, rollout: Rollout) -> list[VerifyStep]:
        route = self._route(rollout.route)
        steps = []
        async with httpx.AsyncClient(trust_env=False) as client:
            for path in rollout.spec.verify.critical_paths:
                url = placeholders.fill(path.http.url, {"route": route.url})
                host = route.host if path.http.url.startswith("{route}") else None
                limit = path.timeout.total_seconds()
                give_up = time.monotonic() + PATH_PATIENCE
                while failure := await http_failure(client, path.http, url, limit=limit, host=host):
                    if time.monotonic() > give_up:
                        break
                    await asyncio.sleep(RETRY_PAUSE)
                detail = failure or f"{masked_url(url)}: {path.http.status}"
                steps.append(VerifyStep(name=f"critical path {path.name}", ok=failure is None, detail=detail))
        return steps


async def _health_failure(client: httpx.AsyncClient, url: str, health: Health) -> str | None:
    """What is wrong with the answer, or None: any 2xx will do, as for readiness."""
    try:
        async with asyncio.timeout(health.timeout.total_seconds()), client.stream("GET", url) as response:
            return None if response.is_success else f"{url}: status {response.status_code}"
    except TimeoutError:
        return f"{url}: no answer within {format_duration(health.timeout)}"
    except httpx.HTTPError as error:
        return f"{url}: {type(error).__name__} {error}".rstrip()


def _sum(one: Arm, other: Arm) -> Arm:
    """Two windows of the same revision as one."""
    counts = dict(one.buckets)
    for edge, count in other.buckets:
        counts[edge] = counts.get(edge, 0) + count
    return Arm(
        revision=one.revision,
        requests=one.requests + other.requests,
        errors=one.errors + other.errors,
        abandoned=one.abandoned + other.abandoned,
        buckets=tuple(sorted(counts.items())),
        waited=histogram.merged(one.waited, other.waited),
        unserved=one.unserved + other.unserved,
    )


def _enough(arm: Arm, wanted: int) -> bool:
    """Answers to judge, or so many clients that gave up that their lack is an answer, too."""
    return arm.requests >= wanted or (arm.unanswered and arm.abandoned >= wanted)


def _with_absence(step: VerifyStep, seconds: float) -> VerifyStep:
    """Says also for how long nobody was there to be judged."""
    if seconds < TOLD_ABSENCE:
        return step
    length = format_duration(timedelta(seconds=round(seconds)))
    told = f"no instance was ready for {length}, which is not counted"
    return step.model_copy(update={"detail": f"{step.detail}; {told}"})


def judge_arm(arm: Arm | None, limits: Limits, window: timedelta) -> VerifyStep:
    """Pure: one variant's numbers against limits. None: nothing was seen, so nothing is said (R1)."""
    name = "metrics"
    if arm is None:
        return VerifyStep(
            name=name, ok=False, unknown=True, detail=f"too few requests within {format_duration(window)}"
        )
    given_up = f"clients gave up on {arm.abandoned} of {arm.arrived}" if arm.abandoned else ""
    if not arm.requests:
        return VerifyStep(name=name, ok=False, detail=f"no request was answered; {given_up}")
    found, bad = [], False
    share = arm.errors / arm.requests
    found.append(f"errors {format_ratio(round(share, 6))} of {arm.requests}")
    if limits.error_rate is not None and share > limits.error_rate:
        bad = True
        found[-1] += f" above {format_ratio(limits.error_rate)}"
    for quantile, limit in (("p95", limits.latency_p95), ("p99", limits.latency_p99)):
        if limit is None:
            continue
        known = histogram.with_waited(arm.buckets, arm.waited, limits.latencies())
        slow = histogram.certainly_above(known, limit.total_seconds())
        within = slow <= SLOW_SHARE[quantile] * histogram.total(known)
        bad = bad or not within
        found.append(f"{quantile} {'within' if within else 'above'} {format_duration(limit)}")
    if given_up:
        found.append(given_up)
    return VerifyStep(name=name, ok=not bad, detail="; ".join(found))

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

from phoenix_orch.health_validator.observation import Arm
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import NotFound, PhoenixError, Retryable
from phoenix_orch.kernel.units import format_duration, format_ratio
from phoenix_orch.rollback_controller.checks import http_failure
from phoenix_orch.rollout.spec import HttpCheck, Limits
from phoenix_orch.rollout.status import Rollout, Verification, VerifyStep
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.workload.spec import Health, Template
from phoenix_orch.workload.workload import Instance, WorkloadView

SLOW_SHARE = {"p95": 0.05, "p99": 0.01}
RETRY_PAUSE = 0.5
"""Seconds between two tries while something that comes back by itself is away."""
HEALTH_PATIENCE = 10.0
"""Seconds an instance has to answer: one that died is replaced, in real time however fast the clock runs."""
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
        route_url: Callable[[str], tuple[str, str | None]],
    ) -> None:
        """`route_url` gives base address and Host header of a route."""
        self._store = store
        self._workload = workload
        self._clock = clock
        self._logs = logs
        self._arm = arm
        self._route_url = route_url

    async def __call__(self, rollout: Rollout, kind: str) -> None:
        """Verify `rollout.status.stable` and publish the result, however long the store is away."""
        revision = rollout.status.stable or ""
        mark = await self._logs.mark(rollout.service, revision) if kind == "rollback" else None
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
            else:
                return

    async def _health(self, rollout: Rollout, revision: str) -> VerifyStep:
        """All instances at once answer, now or within the patience that a replacement needs."""
        name = "health endpoints"
        give_up = time.monotonic() + HEALTH_PATIENCE
        while True:
            try:
                health = (await self._template(rollout.name, revision)).health
                instances = (await self._workload.state(rollout.service)).of(revision)
            except PhoenixError as error:
                return VerifyStep(name=name, ok=False, detail=str(error))
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
                    http_failure(
                        client,
                        HttpCheck(url=f"http://127.0.0.1:{instance.port}{health.path}"),
                        f"http://127.0.0.1:{instance.port}{health.path}",
                        limit=health.timeout.total_seconds(),
                    )
                    for instance in instances
                )
            )
        return [answer for answer in answers if answer is not None]

    async def _metrics(self, rollout: Rollout, kind: str, revision: str) -> VerifyStep:
        """One window of the revision's own numbers against the limits of the last step.

        A promotion waits for requests (R1); after a rollback silence is reported as what it is.
        """
        window = rollout.spec.verify.window
        while True:
            arm = await self._arm(rollout, revision, window)
            enough = arm is not None and arm.requests >= rollout.spec.policy.min_requests
            if enough or kind == "rollback":
                break
        limits = rollout.spec.steps()[-1].limits
        return judge_arm(arm if enough else None, limits, window)

    async def _log_patterns(self, rollout: Rollout, revision: str, mark: dict[str, int] | None) -> VerifyStep:
        name, patterns = "log patterns", rollout.spec.verify.logs.bad
        if not patterns:
            return VerifyStep(name=name, ok=True, detail="none configured")
        try:
            found = await self._logs.matches(rollout.service, revision, mark, patterns)
        except (PhoenixError, OSError) as error:
            return VerifyStep(name=name, ok=False, detail=str(error))
        if found:
            return VerifyStep(name=name, ok=False, detail=f"{len(found)} lines, first: {found[0][:200]}")
        return VerifyStep(name=name, ok=True, detail=f"none of {len(patterns)} patterns found")

    async def _critical_paths(self, rollout: Rollout) -> list[VerifyStep]:
        base, host = self._route_url(rollout.route)
        steps = []
        async with httpx.AsyncClient(trust_env=False) as client:
            for path in rollout.spec.verify.critical_paths:
                url = path.http.url.replace("{route}", base)
                limit = path.timeout.total_seconds()
                give_up = time.monotonic() + PATH_PATIENCE
                while failure := await http_failure(client, path.http, url, limit=limit, host=host):
                    if time.monotonic() > give_up:
                        break
                    await asyncio.sleep(RETRY_PAUSE)
                detail = failure or f"{url}: {path.http.status}"
                steps.append(VerifyStep(name=f"critical path {path.name}", ok=failure is None, detail=detail))
        return steps


def judge_arm(arm: Arm | None, limits: Limits, window: timedelta) -> VerifyStep:
    """Pure: one variant's numbers against limits. None: nothing was seen, so nothing is said (R1)."""
    name = "metrics"
    if arm is None:
        return VerifyStep(
            name=name, ok=False, unknown=True, detail=f"too few requests within {format_duration(window)}"
        )
    found, bad = [], False
    share = arm.errors / arm.requests
    found.append(f"errors {format_ratio(round(share, 6))} of {arm.requests}")
    if limits.error_rate is not None and share > limits.error_rate:
        bad = True
        found[-1] += f" above {format_ratio(limits.error_rate)}"
    for quantile, limit in (("p95", limits.latency_p95), ("p99", limits.latency_p99)):
        if limit is None:
            continue
        slow = _certainly_above(arm, limit.total_seconds()) / arm.requests
        within = slow <= SLOW_SHARE[quantile]
        bad = bad or not within
        found.append(f"{quantile} {'within' if within else 'above'} {format_duration(limit)}")
    return VerifyStep(name=name, ok=not bad, detail="; ".join(found))


def _certainly_above(arm: Arm, limit: float) -> int:
    """Requests in buckets that begin at or above the limit."""
    above, lower = 0, 0.0
    for upper, count in arm.buckets:
        if lower >= limit:
            above += count
        lower = upper
    return above

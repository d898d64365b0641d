"""The guide's verification steps, as far as they can be taken from outside the pods.

What cannot be looked at here is said to be unknown, which is neither a pass nor a failure (R1).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import httpx

from phoenix_orch.kernel import placeholders
from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kernel.errors import NotFound, PhoenixError, Retryable
from phoenix_orch.kernel.masking import masked_url
from phoenix_orch.kube.resources import Object
from phoenix_orch.orchestrator.cluster.declared import Declared, Rollouts
from phoenix_orch.orchestrator.cluster.user_calls import ROUTE, call_of
from phoenix_orch.orchestrator.cluster.view import ClusterView, canary_pods
from phoenix_orch.rollback_controller.checks import Route, http_failure
from phoenix_orch.rollout.status import Rollout, Verification, VerifyStep
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.workload.deployment.promotion import standing
from phoenix_orch.workload.deployment.refusal import Refusal
from phoenix_orch.workload.workload import InstanceState

PATIENCE = 10.0
"""Seconds in which a pod that is just being replaced may come back."""
PAUSE = 0.5


class ClusterVerifier:
    """Verifies `rollout.status.stable` and publishes the result, however long the store is away."""

    def __init__(
        self,
        store: RolloutStore,
        rollouts: Rollouts,
        view: ClusterView,
        clock: Clock,
        main: Callable[[Declared], Object | None],
    ) -> None:
        """`main`: the first Ingress of a Rollout. It asks nobody."""
        self._store = store
        self._rollouts = rollouts
        self._view = view
        self._clock = clock
        self._main = main

    async def __call__(self, rollout: Rollout, kind: str) -> None:
        result = Verification(
            kind=kind,
            revision=rollout.status.stable or "",
            release=rollout.status.release,
            at=self._clock.now(),
            steps=(
                await self._patiently(rollout),
                _unseen("metrics", "the health validator judges them during the bake"),
                *self._logs(rollout),
                *await self._critical_paths(rollout),
            ),
        )
        while True:
            try:
                await self._store.put_verification(rollout.name, result)
            except Retryable:
                await asyncio.sleep(PAUSE)
            except NotFound:
                return  # the rollout was removed; nobody waits for the result
            else:
                return

    async def _patiently(self, rollout: Rollout) -> VerifyStep:
        give_up = time.monotonic() + PATIENCE
        while True:
            step = await self._pods(rollout)
            if step.ok or time.monotonic() > give_up:
                return step
            await asyncio.sleep(PAUSE)

    async def _pods(self, rollout: Rollout) -> VerifyStep:
        """All pods that stable wants run its revision and pass their readiness probes."""
        name = "health endpoints"
        try:
            scene = self._view.scene(self._rollouts.named(rollout.name))
            state = await self._view.state(rollout.service)
        except PhoenixError as error:
            return VerifyStep(name=name, ok=False, detail=str(error))
        found, beside = standing(scene.stable), canary_pods(scene)
        own = [pod for pod in state.instances if pod.name not in beside]
        bad = [pod.name for pod in own if pod.state is not InstanceState.READY]
        if scene.stable_revision() != rollout.status.stable:
            return VerifyStep(name=name, ok=False, detail=f"stable runs {scene.stable_revision()}")
        if not found.complete:
            return VerifyStep(name=name, ok=False, detail=found.message)
        if bad:
            return VerifyStep(name=name, ok=False, detail=f"not ready: {', '.join(bad)}")
        return VerifyStep(name=name, ok=True, detail=f"{len(own)} of {found.wanted} pods are ready")

    def _logs(self, rollout: Rollout) -> tuple[VerifyStep, ...]:
        if not rollout.spec.verify.logs.bad:
            return ()
        return (_unseen("log patterns", "the logs of pods are not searched by this version"),)

    async def _critical_paths(self, rollout: Rollout) -> list[VerifyStep]:
        steps = []
        call = self._call(rollout)
        async with httpx.AsyncClient(trust_env=False) as client:
            for path in rollout.spec.verify.critical_paths:
                name, host = f"critical path {path.name}", None
                if ROUTE not in placeholders.words(path.http.url):
                    url = placeholders.fill(path.http.url, {})
                elif isinstance(call, Route):
                    url = placeholders.fill(path.http.url, {ROUTE: call.url})
                    host = call.host if path.http.url.startswith(f"{{{ROUTE}}}") else None
                else:
                    steps.append(_unseen(name, f"{call.message}: {call.remedy}"))
                    continue
                limit = path.timeout.total_seconds()
                failure = await http_failure(client, path.http, url, limit=limit, host=host)
                detail = failure or f"{masked_url(url)}: {path.http.status}"
                steps.append(VerifyStep(name=name, ok=failure is None, detail=detail))
        return steps

    def _call(self, rollout: Rollout) -> Route | Refusal:
        try:
            one = self._rollouts.named(rollout.name)
        except NotFound as error:
            return Refusal("NotFound", error.message, error.remedy or "")
        return call_of(one, self._main(one))


def _unseen(name: str, why: str) -> VerifyStep:
    return VerifyStep(name=name, ok=False, unknown=True, detail=why)

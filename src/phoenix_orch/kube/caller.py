"""One call: its place in the rate, its attempts, the waits between, its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from phoenix_orch.kernel.errors import NotFound, PhoenixError
from phoenix_orch.kube.errors import Call, Changed, Unanswered, Unreachable, status_from, translated
from phoenix_orch.kube.lanes import Lane
from phoenix_orch.kube.retry import asked_wait, may_repeat
from phoenix_orch.kube.wire import Answer, Request, Wire

Fence = Callable[[], float]
"""Seconds for which writes may still be sent; raises when they may not. Asked before every attempt."""

READS = frozenset({"get", "list", "watch"})


class Caller:
    """Makes calls over one lane."""

    def __init__(self, wire: Wire, lane: Lane, fence: Fence | None = None) -> None:
        self.wire = wire
        self.lane = lane
        self.fence = fence

    async def call(self, call: Call, request: Request, *, repeatable: bool) -> Answer:
        """Send until there is an answer that counts. `repeatable`: a second one changes nothing.

        Raises the errors of `errors.py`, and what the fence raises.
        """
        lane, clock = self.lane, self.lane.clock
        end = clock() + lane.limits.patience
        lane.earn()
        attempt, unanswered = 0, 0
        while True:
            await lane.turn(end - clock())
            within = self._within(call, end - clock(), unanswered)
            answer = await self._attempt(call, request, within)
            if isinstance(answer, Answer):
                return answer
            error = answer
            if unanswered and isinstance(error, Changed):
                error.maybe_ours = True
            if unanswered and isinstance(error, NotFound) and call.verb == "delete":
                return Answer(200, {}, b"")  # the attempt before has done it
            unanswered += isinstance(error, Unanswered)
            wait = lane.limits.backoff.delay(attempt, lane.chance(), asked_wait(error))
            again = may_repeat(error, repeatable=repeatable) and clock() + wait < end
            if not again or not lane.may_repeat():
                raise error
            await asyncio.sleep(wait)
            attempt += 1

    def _within(self, call: Call, left: float, unanswered: int) -> float:
        """Twice as long after each attempt without an answer: a webhook may take its time over every one."""
        within = max(0.05, min(self.lane.limits.attempt * 2.0 ** min(unanswered, 8), left))
        if self.fence is None or call.verb in READS:
            return within
        return min(within, self.fence())

    async def _attempt(self, call: Call, request: Request, within: float) -> Answer | PhoenixError:
        try:
            answer = await self.wire.ask(
                _bounded(call, request, within), call, pool=self.lane.pool, within=within
            )
        except (Unreachable, Unanswered) as error:
            return error
        if answer.status < 300:
            return answer
        return translated(call, status_from(answer.status, answer.body, answer.headers.get("retry-after")))


def _bounded(call: Call, request: Request, within: float) -> Request:
    """Nobody waits for a write any longer than this: so the API server does not do it later either."""
    if call.verb in READS:
        return request
    timeout = f"{max(1, int(within * 1000))}ms"
    return replace(request, parameters={**request.parameters, "timeout": timeout})

"""One call and its attempts: what is repeated, what is waited for, and that nothing delays the abort path."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from phoenix_orch.kernel.errors import NotFound, PhoenixError
from phoenix_orch.kube.caller import Caller
from phoenix_orch.kube.errors import AlreadyExists, Call, Changed, Throttled, Unanswered, Unreachable
from phoenix_orch.kube.fencing import NotLeading
from phoenix_orch.kube.lanes import NORMAL, URGENT, Lane, Limits
from phoenix_orch.kube.resources import DEPLOYMENTS
from phoenix_orch.kube.retry import Backoff
from phoenix_orch.kube.wire import Answer, Pool, Request, Wire

GET = Call("get", DEPLOYMENTS, "shop", "web")
PATCH = Call("patch", DEPLOYMENTS, "shop", "web")
DELETE = Call("delete", DEPLOYMENTS, "shop", "web")
REQUEST = Request("GET", "/", {})
AT_ONCE = replace(NORMAL, backoff=Backoff(0.0, 0.0))
LOST = Unanswered("lost")
DOWN = Unreachable("down")
OK = Answer(200, {}, b"{}")


def said(code: int, reason: str = "", retry_after: str = "") -> Answer:
    body = json.dumps({"kind": "Status", "code": code, "reason": reason}).encode()
    return Answer(code, {"retry-after": retry_after} if retry_after else {}, body)


@dataclass
class Script:
    """A wire that answers as it is told; the last word is repeated."""

    words: list[Answer | PhoenixError]
    asked: list[Request] = field(default_factory=list)
    within: list[float] = field(default_factory=list)

    async def ask(self, request: Request, call: Call, *, pool: Pool, within: float) -> Answer:
        self.asked.append(request)
        self.within.append(within)
        word = self.words.pop(0) if len(self.words) > 1 else self.words[0]
        if isinstance(word, PhoenixError):
            raise word
        return word


def caller(
    words: Iterable[Answer | PhoenixError], limits: Limits = AT_ONCE, **more: Any
) -> tuple[Caller, Script]:
    script = Script(list(words))
    return Caller(cast("Wire", script), Lane(Pool.NORMAL, limits), **more), script


@pytest.mark.parametrize("trouble", [LOST, DOWN, said(429), said(500), said(503), said(504)])
async def test_a_read_is_repeated(trouble: Answer | PhoenixError) -> None:
    made, script = caller([trouble, trouble, OK])
    assert await made.call(GET, REQUEST, repeatable=True) == OK
    assert len(script.asked) == 3


@pytest.mark.parametrize(("trouble", "attempts"), [(LOST, 1), (said(500), 1), (DOWN, 2), (said(429), 2)])
async def test_a_write_that_may_have_been_done_is_not(trouble: Answer | PhoenixError, attempts: int) -> None:
    made, script = caller([trouble, OK])
    try:
        await made.call(PATCH, REQUEST, repeatable=False)
    except Unanswered:
        assert attempts == 1
    assert len(script.asked) == attempts


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 410, 422])
async def test_a_clear_no_is_taken_at_once(code: int) -> None:
    made, script = caller([said(code)])
    with pytest.raises(PhoenixError):
        await made.call(GET, REQUEST, repeatable=True)
    assert len(script.asked) == 1


@pytest.mark.parametrize("reason", ["Conflict", "AlreadyExists"])
async def test_a_conflict_after_silence_may_be_our_own(reason: str) -> None:
    made, _ = caller([LOST, said(409, reason)])
    with pytest.raises(Changed) as found:
        await made.call(PATCH, REQUEST, repeatable=True)
    assert found.value.maybe_ours
    assert isinstance(found.value, AlreadyExists) == (reason == "AlreadyExists")
    made, _ = caller([DOWN, said(409, reason)])
    with pytest.raises(Changed) as found:
        await made.call(PATCH, REQUEST, repeatable=True)
    assert not found.value.maybe_ours


async def test_a_delete_after_silence_that_finds_nothing_has_done_it() -> None:
    made, _ = caller([LOST, said(404, "NotFound")])
    await made.call(DELETE, REQUEST, repeatable=True)
    made, _ = caller([DOWN, said(404, "NotFound")])
    with pytest.raises(NotFound):
        await made.call(DELETE, REQUEST, repeatable=True)


async def test_what_is_asked_to_wait_longer_than_the_patience_fails_at_once() -> None:
    made, script = caller([said(429, retry_after="40")])
    with pytest.raises(Throttled) as found:
        await made.call(GET, REQUEST, repeatable=True)
    assert found.value.retry_after == 40
    assert len(script.asked) == 1


async def test_the_wait_that_is_asked_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    made, _ = caller([said(429, retry_after="7"), said(503, retry_after="2"), OK], NORMAL)
    await made.call(GET, REQUEST, repeatable=True)
    assert 7 <= waits[0] <= 7 + NORMAL.backoff.base
    assert 2 <= waits[1] <= 2 + 2 * NORMAL.backoff.base


async def test_repeats_run_out_when_nothing_works() -> None:
    """An API server in trouble gets no storm: the budget first, then one repeat for five calls."""
    limits = replace(AT_ONCE, repeats=10, repeats_rate=0)
    made, script = caller([LOST], limits)
    for _ in range(100):
        with pytest.raises(Unanswered):
            await made.call(GET, REQUEST, repeatable=True)
    assert len(script.asked) == 100 + 10 + 100 // 5 - 1  # the first call found the budget full


async def test_a_call_ends_in_time_though_nothing_answers() -> None:
    limits = replace(AT_ONCE, patience=0.2, repeats=10**6)
    made, _ = caller([DOWN], replace(limits, backoff=Backoff(0.05, 0.05)))
    async with asyncio.timeout(2):
        with pytest.raises(Unreachable):
            await made.call(GET, REQUEST, repeatable=True)


async def test_a_write_is_bounded_on_the_other_side_too() -> None:
    made, script = caller([OK])
    await made.call(PATCH, REQUEST, repeatable=True)
    await made.call(GET, REQUEST, repeatable=True)
    assert script.asked[0].parameters == {"timeout": "10000ms"}
    assert script.asked[1].parameters == {}


async def test_a_webhook_that_is_slow_every_time_gets_more_time_each_time() -> None:
    made, script = caller([LOST, LOST, DOWN, OK], replace(AT_ONCE, attempt=2, patience=15))
    await made.call(PATCH, REQUEST, repeatable=True)
    assert script.within == [2, 4, 8, 8]
    assert [one.parameters["timeout"] for one in script.asked] == ["2000ms", "4000ms", "8000ms", "8000ms"]


async def test_the_fence_is_asked_before_every_attempt_of_a_write() -> None:
    left = [5.0, 0.5]

    def fence() -> float:
        if not left:
            raise NotLeading("over")
        return left.pop(0)

    made, script = caller([LOST], fence=fence)
    await caller([OK], fence=fence)[0].call(GET, REQUEST, repeatable=True)
    assert len(left) == 2  # reading is free
    with pytest.raises(NotLeading):
        await made.call(PATCH, REQUEST, repeatable=True)
    assert script.within == [5.0, 0.5]


async def test_the_abort_path_waits_for_no_other_call() -> None:
    """Rule R2: ten thousand calls stand in line, and none of their places is in the way."""
    waits: list[float] = []
    time = 0.0
    normal = Lane(Pool.NORMAL, NORMAL, clock=lambda: time)
    urgent = Lane(Pool.URGENT, URGENT, clock=lambda: time)
    for _ in range(10_000):
        waits.append(normal._rate.reserve(time))
        normal.may_repeat()
    assert waits[-1] > 100
    assert not normal.may_repeat()
    async with asyncio.timeout(1):
        for _ in range(int(URGENT.burst)):
            await urgent.turn()
    assert urgent.may_repeat()


async def test_a_call_whose_turn_comes_too_late_fails_at_once() -> None:
    made, _ = caller([OK], replace(AT_ONCE, rate=1, burst=1, patience=30))
    calls = [asyncio.create_task(made.call(GET, REQUEST, repeatable=True)) for _ in range(100)]
    async with asyncio.timeout(1):
        while sum(call.done() for call in calls) < 70:
            await asyncio.sleep(0)
    failed = [call.exception() for call in calls if call.done() and call.exception()]
    assert len(failed) == 69  # one had its turn, thirty wait for theirs
    assert all(isinstance(error, Throttled) for error in failed)
    assert "allows itself" in str(failed[0])
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)


async def test_a_turn_that_is_given_up_takes_no_place() -> None:
    time = 0.0
    lane = Lane(Pool.NORMAL, replace(NORMAL, burst=1, rate=0.1), clock=lambda: time)
    await lane.turn()
    waiting = asyncio.create_task(lane.turn())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert lane._rate.level(time) == 0

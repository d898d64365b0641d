"""When a failing instance may be replaced, and how many may start: rules over all services."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from phoenix_orch.workload.replacing import AT_ONCE, WINDOW, Replacements, Standing, common_cause
from phoenix_orch.workload.starts import Starts

PAUSE = 9.0
GOOD, HALF, BAD = Standing(2, 0), Standing(1, 1), Standing(0, 2)


def services(good: int, bad: int, half: int = 0) -> dict[str, Standing]:
    return {
        **{f"good{n}": GOOD for n in range(good)},
        **{f"half{n}": HALF for n in range(half)},
        **{f"bad{n}": BAD for n in range(bad)},
    }


@pytest.mark.parametrize(
    ("good", "bad", "common"),
    [
        (0, 1, False),
        (0, 2, False),  # two services: each may have a fault of its own
        (0, 3, True),
        (9, 3, True),
        (10, 3, False),
        (117, 3, False),
        (91, 29, False),
        (90, 30, True),
        (100, 0, False),
    ],
)
def test_so_many_services_that_fail_have_a_common_cause(good: int, bad: int, common: bool) -> None:
    assert bool(common_cause(services(good, bad))) is common


def test_one_of_two_instances_is_not_most_of_them() -> None:
    assert common_cause(services(0, 2, half=6)) == ()
    assert common_cause(services(0, 3, half=6)) == ("bad0", "bad1", "bad2")


def test_services_of_which_nothing_has_been_ready_count_on_neither_side() -> None:
    starting = {f"new{n}": Standing(0, 0) for n in range(100)}
    assert common_cause(starting) == ()
    assert len(common_cause({**starting, **services(0, 3)})) == 3


def test_one_at_a_time_of_a_service() -> None:
    replacements = Replacements(lambda: services(9, 1))
    assert replacements.may_begin("bad0", 100.0, PAUSE)
    assert not replacements.may_begin("bad0", 100.0 + PAUSE - 0.1, PAUSE)
    assert replacements.may_begin("bad0", 100.0 + PAUSE, PAUSE)


def test_few_at_once_of_all_services_and_the_others_later() -> None:
    replacements = Replacements(lambda: services(100, 20))
    begun = [replacements.may_begin(f"bad{n}", 100.0 + n, PAUSE) for n in range(20)]
    assert begun == [True] * AT_ONCE + [False] * (20 - AT_ONCE)
    later = [replacements.may_begin(f"bad{n}", 100.0 + AT_ONCE + WINDOW, PAUSE) for n in range(3, 20)]
    assert later.count(True) == AT_ONCE


def test_a_refusal_costs_no_turn() -> None:
    standings = services(0, 20)
    replacements = Replacements(lambda: standings)
    with capture_logs() as logs:
        assert not any(replacements.may_begin(f"bad{n}", 100.0, PAUSE) for n in range(20))
    assert [entry["event"] for entry in logs] == [
        "20 services fail their health paths at once (bad0, bad1, bad10, bad11, bad12 …): nothing is replaced"
    ]
    standings = services(18, 2)
    assert all(replacements.may_begin(f"bad{n}", 100.0, PAUSE) for n in range(2))


async def test_starts_wait_for_a_turn_and_get_it_when_another_one_is_over() -> None:
    starts = Starts(at_once=2, longest=60.0)
    first, second = await starts.turn(lambda: False), await starts.turn(lambda: False)
    third = asyncio.create_task(starts.turn(lambda: False))
    await asyncio.sleep(0)
    assert not third.done()
    first.over()
    first.over()  # once more makes no second place
    turn = await third
    fourth = asyncio.create_task(starts.turn(lambda: False))
    await asyncio.sleep(0.01)
    assert not fourth.done()
    second.over()
    (await fourth).over()
    turn.over()


async def test_a_start_that_takes_long_keeps_nobody_waiting_longer_than_its_turn() -> None:
    starts = Starts(at_once=1, longest=0.05)
    await starts.turn(lambda: False)
    async with asyncio.timeout(10):
        for _ in range(3):
            await starts.turn(lambda: False)


async def test_who_is_not_wanted_any_more_waits_no_longer() -> None:
    starts, unwanted = Starts(at_once=1, longest=60.0), False
    await starts.turn(lambda: False)
    waiting = asyncio.create_task(starts.turn(lambda: unwanted))
    await asyncio.sleep(0)
    unwanted = True
    starts.look_again()
    async with asyncio.timeout(10):
        (await waiting).over()
    another = asyncio.create_task(starts.turn(lambda: False))
    await asyncio.sleep(0.01)
    assert not another.done()  # it gave back no more than it had taken
    another.cancel()

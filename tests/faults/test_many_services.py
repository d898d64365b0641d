"""What many services on one machine must not do to each other. Real processes, and real trouble."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from structlog.testing import capture_logs
from tests.workload.kit import get, shop, supervised

from phoenix_orch.workload import starts
from phoenix_orch.workload.process import ProcessWorkload
from phoenix_orch.workload.spec import Health, ServiceSpec
from phoenix_orch.workload.workload import InstanceState, WorkloadState

SERVICES = tuple(f"shop{number}" for number in range(4))
PATIENCE = 30.0


async def until(what: str, condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not await condition():
        assert time.monotonic() < deadline, f"did not come: {what}"
        await asyncio.sleep(0.02)


async def start(workload: ProcessWorkload, names: tuple[str, ...], spec: ServiceSpec) -> None:
    for name in names:
        await workload.declare(name, spec)
        await workload.scale(name, spec.template(), 1)


async def states(workload: ProcessWorkload, names: tuple[str, ...]) -> list[WorkloadState]:
    return [await workload.state(name) for name in names]


def in_state(workload: ProcessWorkload, names: tuple[str, ...], wanted: InstanceState) -> Awaitable[None]:
    async def there() -> bool:
        return all([i.state for i in s.instances] == [wanted] for s in await states(workload, names))

    return until(f"all {wanted.value}", there)


async def ends(workload: ProcessWorkload, names: tuple[str, ...]) -> list[str]:
    return [end.reason for state in await states(workload, names) for end in state.exits]


async def test_many_services_that_fail_at_once_are_left_alone_and_one_that_goes_on_failing_is_not(
    tmp_path: Path,
) -> None:
    with capture_logs() as logs:
        async with supervised(tmp_path) as workload:
            await start(workload, SERVICES, shop())
            await in_state(workload, SERVICES, InstanceState.READY)
            sick = {name: (await workload.state(name)).instances[0] for name in SERVICES}
            await asyncio.gather(*(get(instance, "/sick") for instance in sick.values()))
            await in_state(workload, SERVICES, InstanceState.UNREADY)

            def told() -> list[str]:
                return [entry["event"] for entry in logs if "at once" in entry["event"]]

            async def noticed() -> bool:
                return bool(told())

            await until("somebody notices", noticed)
            await asyncio.sleep(2.0)  # nine failures of every one, more than once
            assert await ends(workload, SERVICES) == []
            assert told() == [
                "4 services fail their health paths at once (shop0, shop1, shop2, shop3): nothing is replaced"
            ]
            for name in SERVICES[1:]:
                await get(sick[name], "/well")
            await in_state(workload, SERVICES, InstanceState.READY)
            assert await ends(workload, SERVICES) == ["unhealthy"]
            assert [end.instance for end in (await workload.state(SERVICES[0])).exits] == [sick["shop0"].name]


async def test_a_loop_that_stands_still_is_not_held_against_those_who_answer(tmp_path: Path) -> None:
    """Each stand finds a look under way that would have been answered in time."""
    health = Health(
        path="/hold?s=0.3",
        interval=timedelta(milliseconds=50),
        timeout=timedelta(seconds=1.5),
        failures=2,
    )
    names = SERVICES[:2]
    with capture_logs() as logs:
        async with supervised(tmp_path) as workload:
            await start(workload, names, shop(health=health))
            await in_state(workload, names, InstanceState.READY)
            for _ in range(3):
                time.sleep(2.0)  # noqa: ASYNC251 - to be stuck is the point
                await asyncio.sleep(0.15)
            await in_state(workload, names, InstanceState.READY)
            assert await ends(workload, names) == []
    assert "instance is not ready" not in [entry["event"] for entry in logs]


async def test_services_start_a_few_at_a_time(tmp_path: Path) -> None:
    names = tuple(f"shop{number:02d}" for number in range(3 * starts.AT_ONCE))
    most = 0
    async with supervised(tmp_path) as workload:

        async def all_ready() -> bool:
            nonlocal most
            found = [i for s in await states(workload, names) for i in s.instances]
            most = max(most, sum(i.state is InstanceState.STARTING for i in found))
            return [i.state for i in found] == [InstanceState.READY] * len(names)

        await start(workload, names, shop())
        await until("all are ready", all_ready)
    assert 1 <= most <= starts.AT_ONCE


async def test_services_that_wait_for_their_start_end_at_once_when_phoenix_stops(tmp_path: Path) -> None:
    names = tuple(f"shop{number:02d}" for number in range(3 * starts.AT_ONCE))
    async with supervised(tmp_path) as workload:
        await start(workload, names, shop("--ready-after", "-1"))

        async def some_started() -> bool:
            return any(i.pid for s in await states(workload, names) for i in s.instances)

        await until("the first ones are started", some_started)
        began = time.monotonic()
        await workload.stop()
        assert time.monotonic() - began < starts.LONGEST + 10.0

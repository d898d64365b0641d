"""What every Workload has to do, as checks that need nothing but the workload and a `Stage`.

    @pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
    async def test_contract(check, my_stage):
        await check(my_stage)

Each check wants a stage of its own, without services.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from phoenix_orch.kernel.errors import Invalid, NotFound
from phoenix_orch.testing.refusals import refused
from phoenix_orch.workload.spec import ServiceSpec
from phoenix_orch.workload.workload import Instance, InstanceState, Workload, WorkloadState

SERVICE = "shop"
PATIENCE = 20.0
"""Seconds until a state that does not come is a failure."""


class Stage(Protocol):
    """A workload, and a hand on what its instances do."""

    workload: Workload

    def spec(self, version: str, *, ready: bool = True) -> ServiceSpec:
        """A service that answers its health path, or never does."""
        ...

    async def crash(self, instance: Instance) -> None:
        """End the process of an instance by itself."""
        ...

    async def sicken(self, instance: Instance) -> None:
        """Let it fail its health path from now on."""
        ...

    async def heal(self, instance: Instance) -> None:
        """Let it answer again."""
        ...


Check = Callable[[Stage], Awaitable[None]]


async def until(workload: Workload, what: Callable[[WorkloadState], bool]) -> WorkloadState:
    """The first state for which `what` holds."""
    deadline = time.monotonic() + PATIENCE
    while True:
        state = await workload.state(SERVICE)
        if what(state):
            return state
        assert time.monotonic() < deadline, f"did not come: {state}"
        await asyncio.sleep(0.01)


async def running(stage: Stage, count: int, version: str = "1") -> tuple[ServiceSpec, WorkloadState]:
    """Declare the service, want `count` instances of `version` and wait until all are ready."""
    spec = stage.spec(version)
    await stage.workload.declare(SERVICE, spec)
    await stage.workload.scale(SERVICE, spec.template(), count)
    revision = spec.template().revision
    return spec, await until(stage.workload, lambda state: len(state.ready(revision)) == count)


async def unknown_service_is_not_found(stage: Stage) -> None:
    workload = stage.workload
    await refused(workload.state(SERVICE), NotFound)
    await refused(workload.templates(SERVICE), NotFound)
    await refused(workload.scale(SERVICE, stage.spec("1").template(), 1), NotFound)
    await refused(workload.release(SERVICE, frozenset()), NotFound)
    await refused(workload.restart(SERVICE), NotFound)


async def declared_service_has_no_instances(stage: Stage) -> None:
    for _ in range(2):
        await stage.workload.declare(SERVICE, stage.spec("1"))
    state = await stage.workload.state(SERVICE)
    assert (state.service, state.wanted, state.instances, state.exits) == (SERVICE, {}, (), ())


async def fewer_than_none_is_refused(stage: Stage) -> None:
    await stage.workload.declare(SERVICE, stage.spec("1"))
    await refused(stage.workload.scale(SERVICE, stage.spec("1").template(), -1), Invalid)


async def templates_are_known_of_what_is_wanted_or_there(stage: Stage) -> None:
    await stage.workload.declare(SERVICE, stage.spec("1"))
    assert await stage.workload.templates(SERVICE) == {}
    one, two = (stage.spec(version).template() for version in ("1", "2"))
    await stage.workload.scale(SERVICE, one, 1)
    await stage.workload.scale(SERVICE, two, 1)
    assert await stage.workload.templates(SERVICE) == {one.revision: one, two.revision: two}
    await stage.workload.scale(SERVICE, two, 0)
    await stage.workload.release(SERVICE, frozenset())
    await until(stage.workload, lambda state: not state.of(two.revision))
    assert await stage.workload.templates(SERVICE) == {one.revision: one}


async def what_is_wanted_is_known_at_once(stage: Stage) -> None:
    template = stage.spec("1").template()
    await stage.workload.declare(SERVICE, stage.spec("1"))
    await stage.workload.scale(SERVICE, template, 2)
    assert (await stage.workload.state(SERVICE)).wanted == {template.revision: 2}
    await stage.workload.scale(SERVICE, template, 0)
    assert (await stage.workload.state(SERVICE)).wanted == {}


async def instances_become_ready_each_with_its_own_name_pid_and_port(stage: Stage) -> None:
    spec, state = await running(stage, 3)
    revision = spec.template().revision
    assert {i.name.rpartition("-")[0] for i in state.instances} == {f"{SERVICE}-{revision}"}
    assert len({i.name for i in state.instances}) == 3
    assert len({i.pid for i in state.instances}) == 3
    assert len({i.port for i in state.instances}) == 3
    assert all(i.started is not None and i.ready_since is not None for i in state.instances)


async def wanting_the_same_again_changes_nothing(stage: Stage) -> None:
    spec, before = await running(stage, 2)
    await stage.workload.scale(SERVICE, spec.template(), 2)
    await asyncio.sleep(0.05)
    assert (await stage.workload.state(SERVICE)).instances == before.instances


async def revisions_run_beside_each_other(stage: Stage) -> None:
    _, before = await running(stage, 2)
    spec, state = await running(stage, 1, version="2")
    assert state.instances[:2] == before.instances
    assert len(state.of(spec.template().revision)) == 1


async def one_that_was_never_ready_leaves_at_once(stage: Stage) -> None:
    spec = stage.spec("1", ready=False)
    await stage.workload.declare(SERVICE, spec)
    await stage.workload.scale(SERVICE, spec.template(), 1)
    await until(stage.workload, lambda s: [i.state for i in s.instances] == [InstanceState.STARTING])
    await stage.workload.scale(SERVICE, spec.template(), 0)
    await until(stage.workload, lambda state: not state.instances)


async def one_that_is_routed_leaves_only_when_released(stage: Stage) -> None:
    spec, state = await running(stage, 2)
    revision = spec.template().revision
    await stage.workload.scale(SERVICE, spec.template(), 1)
    state = await until(stage.workload, lambda state: len(state.ready(revision)) == 1)
    (leaving,) = (i for i in state.instances if i.state is InstanceState.DRAINING)
    assert leaving.pid is not None
    await stage.workload.release(SERVICE, frozenset({leaving.name}))
    await asyncio.sleep(0.2)
    assert leaving in (await stage.workload.state(SERVICE)).instances
    await stage.workload.release(SERVICE, frozenset())
    state = await until(stage.workload, lambda state: len(state.instances) == 1)
    assert state.instances[0].state is InstanceState.READY
    assert state.exits == ()


async def release_ends_none_that_is_wanted(stage: Stage) -> None:
    _, before = await running(stage, 2)
    await stage.workload.release(SERVICE, frozenset())
    await asyncio.sleep(0.1)
    assert (await stage.workload.state(SERVICE)).instances == before.instances


async def one_that_is_wanted_again_comes_back_warm(stage: Stage) -> None:
    spec, before = await running(stage, 2)
    await stage.workload.scale(SERVICE, spec.template(), 0)
    await until(stage.workload, lambda s: {i.state for i in s.instances} == {InstanceState.DRAINING})
    await stage.workload.scale(SERVICE, spec.template(), 2)
    state = await until(stage.workload, lambda s: len(s.ready(spec.template().revision)) == 2)
    assert state.instances == before.instances


async def a_crash_is_recorded_and_repaired(stage: Stage) -> None:
    _, state = await running(stage, 1)
    (before,) = state.instances
    await stage.crash(before)
    state = await until(stage.workload, lambda s: len(s.exits) == 1)
    assert (state.exits[0].instance, state.exits[0].revision) == (before.name, before.revision)
    assert state.exits[0].reason
    state = await until(stage.workload, lambda s: len(s.ready(before.revision)) == 1)
    assert state.instances[0].name == before.name
    assert (state.instances[0].pid, state.instances[0].started) != (before.pid, before.started)


async def one_that_ends_while_it_leaves_stays_away(stage: Stage) -> None:
    spec, state = await running(stage, 1)
    (before,) = state.instances
    await stage.workload.scale(SERVICE, spec.template(), 0)
    await until(stage.workload, lambda s: s.instances[0].state is InstanceState.DRAINING)
    await stage.crash(before)
    state = await until(stage.workload, lambda s: not s.instances)
    assert len(state.exits) == 1


async def sick_ones_are_unready_until_they_answer_again(stage: Stage) -> None:
    _, state = await running(stage, 2)
    sick, well = state.instances
    await stage.sicken(sick)
    state = await until(stage.workload, lambda s: s.ready(sick.revision) == (well,))
    assert state.instances[0].state is InstanceState.UNREADY
    assert state.instances[0].ready_since is None
    assert state.instances[0].pid == sick.pid
    await stage.heal(sick)
    await until(stage.workload, lambda s: len(s.ready(sick.revision)) == 2)


async def restart_replaces_one_by_one_and_never_serves_with_fewer(stage: Stage) -> None:
    spec, before = await running(stage, 2)
    revision, old = spec.template().revision, {i.name for i in before.instances}
    await stage.workload.restart(SERVICE)
    fewest, most = 2, 2

    def replaced(state: WorkloadState) -> bool:
        nonlocal fewest, most
        staying = [i for i in state.instances if i.state is not InstanceState.DRAINING]
        fewest, most = min(fewest, len(state.ready(revision))), max(most, len(staying))
        return len(state.ready(revision)) == 2 and not old & {i.name for i in state.instances}

    deadline = time.monotonic() + PATIENCE
    while not replaced(state := await stage.workload.state(SERVICE)):
        assert time.monotonic() < deadline, f"did not come: {state}"
        routed = frozenset(i.name for i in state.ready(revision))
        await stage.workload.release(SERVICE, routed)
        await asyncio.sleep(0.005)
    assert fewest == 2
    assert most <= 3
    assert state.wanted == {revision: 2}
    assert state.exits == ()


CONTRACT: tuple[Check, ...] = (
    unknown_service_is_not_found,
    declared_service_has_no_instances,
    fewer_than_none_is_refused,
    templates_are_known_of_what_is_wanted_or_there,
    what_is_wanted_is_known_at_once,
    instances_become_ready_each_with_its_own_name_pid_and_port,
    wanting_the_same_again_changes_nothing,
    revisions_run_beside_each_other,
    one_that_was_never_ready_leaves_at_once,
    one_that_is_routed_leaves_only_when_released,
    release_ends_none_that_is_wanted,
    one_that_is_wanted_again_comes_back_warm,
    a_crash_is_recorded_and_repaired,
    one_that_ends_while_it_leaves_stays_away,
    sick_ones_are_unready_until_they_answer_again,
    restart_replaces_one_by_one_and_never_serves_with_fewer,
)

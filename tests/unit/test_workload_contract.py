"""Every workload obeys the same contract; here the one in memory."""

import pytest

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.testing.fake_workload import FakeWorkload
from phoenix_orch.testing.workload_contract import CONTRACT, SERVICE, Check, running
from phoenix_orch.workload.spec import ServiceSpec
from phoenix_orch.workload.workload import Instance, InstanceState

pytestmark = pytest.mark.anyio


class FakeStage:
    def __init__(self) -> None:
        self.workload = FakeWorkload()

    def spec(self, version: str, *, ready: bool = True) -> ServiceSpec:
        self.workload.ready_at_once = ready
        return ServiceSpec(version=version, command="shop {port}")

    async def crash(self, instance: Instance) -> None:
        self.workload.crash(instance.name)

    async def sicken(self, instance: Instance) -> None:
        self.workload.make_unready(instance.name)

    async def heal(self, instance: Instance) -> None:
        self.workload.make_ready(instance.name)


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_fake(check: Check) -> None:
    await check(FakeStage())


async def test_fake_instances_start_when_a_test_says_so() -> None:
    stage = FakeStage()
    spec, state = await running(stage, 1)
    stage.workload.ready_at_once = False
    (instance,) = state.instances
    stage.workload.crash(instance.name, code=-9, reason="oom", restart=False)
    state = await stage.workload.state(SERVICE)
    assert (state.instances[0].state, state.instances[0].pid) == (InstanceState.BACKOFF, None)
    assert (state.exits[0].code, state.exits[0].reason) == (-9, "oom")
    stage.workload.start(instance.name)
    assert (await stage.workload.state(SERVICE)).instances[0].state is InstanceState.STARTING
    stage.workload.make_ready(instance.name)
    assert len((await stage.workload.state(SERVICE)).ready(spec.template().revision)) == 1
    with pytest.raises(NotFound, match="no instance 'shop-x-9'"):
        stage.workload.crash("shop-x-9")

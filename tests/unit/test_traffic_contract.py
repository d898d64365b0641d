"""Every router obeys the same contract; here the ones that need no data plane."""

from pathlib import Path

import pytest

from phoenix_orch.kernel.errors import Conflict, Unavailable
from phoenix_orch.testing.fake_router import FakeRouter
from phoenix_orch.testing.router_contract import CONTRACT, DATA_PLANE, NEW, OLD, ROUTE, Check
from phoenix_orch.traffic.embedded import EmbeddedRouter
from phoenix_orch.traffic.router import TrafficState

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_embedded(check: Check, tmp_path: Path) -> None:
    await check(EmbeddedRouter(tmp_path))


@pytest.mark.parametrize("check", CONTRACT + DATA_PLANE, ids=lambda check: check.__name__)
async def test_fake(check: Check) -> None:
    await check(FakeRouter())


async def test_fake_faults_change_nothing_and_pass() -> None:
    router = FakeRouter()
    state = await router.write(TrafficState(route=ROUTE, stable=OLD))
    router.fail_next("write", Conflict("somebody was quicker"))
    router.fail_next("abort", Unavailable("away"), times=2)
    with pytest.raises(Conflict):
        await router.write(state)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await router.abort(ROUTE, "new")
    assert await router.read(ROUTE) == state
    assert (await router.write(state)).version == 2
    assert [each.version for each in router.history] == [1, 2]


async def test_fake_data_plane_lags_and_goes_blind() -> None:
    router = FakeRouter()
    state = await router.write(TrafficState(route=ROUTE, stable=OLD))
    router.freeze()
    await router.write(state.model_copy(update={"canary": NEW, "weight": 5}))
    assert (await router.observe(ROUTE)).weight == 0
    router.thaw()
    assert (await router.observe(ROUTE)).weight == 5
    router.blind()
    assert (await router.observe(ROUTE)).weight is None
    router.blind(False)
    router.meddle((await router.read(ROUTE)).model_copy(update={"weight": 90}))
    drifted = await router.read(ROUTE)
    assert (drifted.weight, drifted.drifted) == (90, True)
    router.delete(ROUTE)
    assert (await router.observe(ROUTE)).weight is None

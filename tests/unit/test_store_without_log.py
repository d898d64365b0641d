"""A KubernetesStore while its log is away or hangs: verdicts are known, and nobody waits for long."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import cast

import pytest
from tests.unit.kube_rollouts import Log, RolloutsApi
from tests.unit.test_rollback_service import NEW, SHOP, WallClock
from tests.unit.test_rollback_service import World as RollbackWorld
from tests.unit.validator_setting import World as ValidatorWorld

from phoenix_orch.health_validator.observation import Verdict, VerdictKind
from phoenix_orch.kernel.clock import Clock, ManualClock
from phoenix_orch.kernel.errors import Conflict, Retryable
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.rollback_controller.checks import Route
from phoenix_orch.rollback_controller.service import RollbackController
from phoenix_orch.rollout.status import Rollout
from phoenix_orch.rollout.store import kubernetes, patience
from phoenix_orch.rollout.store.kubernetes import KubernetesStore
from phoenix_orch.rollout.store.patience import PAUSE, Patience
from phoenix_orch.testing.store_samples import SHOP as ROLLOUT
from phoenix_orch.testing.store_samples import VERDICT, command, event

pytestmark = pytest.mark.anyio
FOREVER = 1_000_000
SECOND = timedelta(seconds=1)


@pytest.fixture
def api() -> RolloutsApi:
    return RolloutsApi()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "SHORT", 0.05)
    monkeypatch.setattr(kubernetes, "PATIENCE", 0.05)


def store_on(api: RolloutsApi, log: Log, clock: Clock | None = None) -> KubernetesStore:
    return KubernetesStore(cast("KubeClient", api), log, namespace="shops", clock=clock or ManualClock())


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_verdict_is_known_while_the_log_is_away(api: RolloutsApi, log: Log, hangs: bool) -> None:
    store = store_on(api, log)
    await store.put(ROLLOUT)
    log.hangs = hangs
    log.away(0 if hangs else FOREVER)
    await store.show_verdict("shop", VERDICT)
    with pytest.raises(Retryable):
        await store.put_verdict("shop", VERDICT, "{}")
    judged = await store_on(api, log).judged("shop")
    assert judged is not None
    assert (judged.kind, judged.revision, judged.step, judged.at, judged.reason) == (
        VERDICT.kind,
        VERDICT.revision,
        VERDICT.step,
        VERDICT.at,
        VERDICT.reason,
    )


async def test_the_newer_word_counts_and_of_equal_ones_that_with_its_evidence(
    api: RolloutsApi, log: Log
) -> None:
    store = store_on(api, log)
    await store.put(ROLLOUT)
    await store.show_verdict("shop", VERDICT)
    await store.put_verdict("shop", VERDICT, "{}")
    assert await store.judged("shop") == VERDICT
    later = VERDICT.model_copy(update={"at": VERDICT.at + SECOND, "kind": VerdictKind.HOLD})
    await store.show_verdict("shop", later)
    judged = await store.judged("shop")
    assert judged is not None
    assert judged.kind is VerdictKind.HOLD
    await store.put_verdict("shop", later.model_copy(update={"at": later.at + SECOND}), "{}")
    assert (await store.judged("shop")) == later.model_copy(update={"at": later.at + SECOND})


async def test_an_older_verdict_is_not_shown_over_a_newer_one(api: RolloutsApi, log: Log) -> None:
    store = store_on(api, log)
    await store.put(ROLLOUT)
    await store.show_verdict("shop", VERDICT)
    older = VERDICT.model_copy(update={"at": VERDICT.at - SECOND, "kind": VerdictKind.ADVANCE})
    with pytest.raises(Conflict):
        await store.show_verdict("shop", older)
    assert api.objects["shop"]["status"]["verdict"]["kind"] == "rollback"
    await store.show_verdict("shop", older, clock_back=True)
    assert api.objects["shop"]["status"]["verdict"]["kind"] == "advance"


async def test_the_validator_convicts_and_the_rollback_controller_takes_back_without_a_log(
    api: RolloutsApi, log: Log
) -> None:
    """A canary that fails would keep its share for the whole outage."""
    validating = ValidatorWorld()
    validating.store = store_on(api, log, validating.clock)  # type: ignore[assignment]
    validating.validator = validating.another_validator()
    rollout = await validating.rollout(release_started=validating.clock.now())
    validating.evidence.serve("new", 100, errors=30)
    await validating.ticks(rollout, 1)
    log.away(FOREVER)
    await validating.ticks(rollout, 3)
    assert api.objects["web"]["status"]["verdict"]["kind"] == "rollback"
    controller = RollbackController(
        store_on(api, log),
        validating.router,
        validating.workload,  # type: ignore[arg-type]
        validating.clock,
        route=lambda _: Route("http://127.0.0.1:1"),
    )
    await controller.look()
    await controller.stop()
    state = await validating.router.read("web")
    assert (state.aborted, state.weight) == (("new",), 0)


async def test_the_rollback_controller_acts_while_the_log_hangs(api: RolloutsApi, log: Log) -> None:
    world = RollbackWorld(WallClock())
    world.store = store_on(api, log, world.clock)  # type: ignore[assignment]
    world.controller = RollbackController(
        world.store, world.router, world.workload, world.clock, route=lambda _: Route("http://127.0.0.1:1")
    )
    await world.prepare()
    said = Verdict(
        kind=VerdictKind.ROLLBACK, revision=NEW, step=0, at=world.clock.now(), reason="too many errors"
    )
    log.hangs = True
    await world.store.show_verdict(SHOP, said)
    await world.until_latched()
    log.hangs = False
    await world.controller.stop()


class Durations(ManualClock):
    """As long on a wrist watch as on this clock."""

    def real(self, duration: timedelta) -> timedelta:
        return duration


async def without_memory(api: RolloutsApi, log: Log) -> tuple[ValidatorWorld, Rollout]:
    """A validator that starts while the log is away: what was judged before is in there."""
    world = ValidatorWorld(Durations())
    world.store = store_on(api, log, world.clock)  # type: ignore[assignment]
    world.validator = world.another_validator()
    return world, await world.rollout(release_started=world.clock.now())


async def test_a_validator_that_starts_without_a_log_passes_nothing_before_it_has_evidence(
    api: RolloutsApi, log: Log
) -> None:
    """R1: it begins anew, and only after a while, since a log that is back soon knows more."""
    world, rollout = await without_memory(api, log)
    await world.ticks(rollout, 4)
    log.away(FOREVER)
    world.validator = world.another_validator()
    await world.ticks(rollout, 3)
    before = api.objects["web"]["status"]["verdict"]["at"]
    kinds = []
    for _ in range(9):
        await world.ticks(rollout, 1)
        kinds.append(api.objects["web"]["status"]["verdict"]["kind"])
    assert api.objects["web"]["status"]["verdict"]["at"] > before
    assert kinds[:6] == ["continue"] * 6
    assert kinds[-1] == "advance"


async def test_a_rollback_that_was_shown_stays_one_for_a_validator_without_a_log(
    api: RolloutsApi, log: Log
) -> None:
    world, rollout = await without_memory(api, log)
    world.evidence.serve("new", 100, errors=30)
    await world.ticks(rollout, 3)
    before = api.objects["web"]["status"]["verdict"]
    log.away(FOREVER)
    world.evidence.serve("new", 100)
    world.validator = world.another_validator()
    await world.ticks(rollout, 12)
    shown = api.objects["web"]["status"]["verdict"]
    assert (before["kind"], shown["kind"]) == ("rollback", "rollback")
    assert shown["at"] > before["at"], "the new one said so, too"


async def test_a_log_that_hangs_is_left_alone_for_a_while(api: RolloutsApi, log: Log) -> None:
    store = store_on(api, log)
    await store.put(ROLLOUT)
    log.hangs = True
    with pytest.raises(Retryable, match="does not answer"):
        await store.cause("shop", "bbbb000000")
    asked = log.asked
    for _ in range(100):
        await store.judged("shop")
        await store.command("shop", command("c1"))
    assert log.asked == asked


async def test_it_is_asked_again_and_then_all_is_well() -> None:
    now, calls = 0.0, 0

    async def hang() -> None:
        await asyncio.Event().wait()

    async def answer() -> str:
        nonlocal calls
        calls += 1
        return "here"

    waiting = Patience(lambda: now)
    with pytest.raises(Retryable):
        await waiting.within(0.01, hang)
    now = PAUSE - 0.1
    with pytest.raises(Retryable):
        await waiting.within(0.01, answer)
    assert calls == 0
    now = PAUSE + 0.1
    assert await waiting.within(10, answer) == "here"
    now = PAUSE + 0.2
    assert await waiting.within(10, answer) == "here"


async def test_who_refuses_at_once_is_asked_at_once_and_who_refuses_late_is_not() -> None:
    now, took = 0.0, 0.0

    async def refuse() -> None:
        nonlocal now
        now += took
        raise Retryable("the store refuses")

    async def answer() -> str:
        return "here"

    waiting = Patience(lambda: now)
    with pytest.raises(Retryable, match="refuses"):
        await waiting.within(10, refuse)
    assert await waiting.within(10, answer) == "here"
    took = patience.SLOW
    with pytest.raises(Retryable, match="refuses"):
        await waiting.within(10, refuse)
    with pytest.raises(Retryable, match="does not answer"):
        await waiting.within(10, answer)


async def test_the_log_of_what_was_deleted_goes_and_no_other(api: RolloutsApi, log: Log) -> None:
    store = store_on(api, log)
    for name in ("gone", "stays", "unseen"):
        await store.put(ROLLOUT.model_copy(update={"name": name}))
        await store.append_events(name, [event(1)])
    del api.objects["gone"]
    uids = {api.objects["stays"]["metadata"]["uid"]}  # the watch has not shown `unseen` yet
    assert await store.sweep(uids) == ("gone",)
    assert [copy.name for copy in await log.rollouts()] == ["stays", "unseen"]
    assert await log.events("gone") == []
    assert await log.events("stays") == [event(1)]


async def test_a_namesake_keeps_its_log(api: RolloutsApi, log: Log) -> None:
    store = store_on(api, log)
    await store.put(ROLLOUT)
    del api.objects["shop"]
    await store.put(ROLLOUT)
    await store.append_events("shop", [event(2)])
    assert await store.sweep(set()) == ()
    assert await log.events("shop") == [event(2)]

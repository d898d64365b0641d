"""What every RolloutStore has to do, as checks that need nothing but an empty store.

    @pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
    async def test_contract(check, my_store):
        await check(my_store)

Logs may be trimmed in chunks, so their caps are checked with some slack.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from phoenix_orch.health_validator.observation import (
    Arm,
    MetricEvidence,
    Observation,
    Quality,
    Verdict,
    VerdictKind,
)
from phoenix_orch.kernel.errors import Conflict, NotFound, PhoenixError
from phoenix_orch.rollout.spec import Limits, Phase, RolloutSpec
from phoenix_orch.rollout.status import (
    Cause,
    Command,
    CommandKind,
    Event,
    Outcome,
    Release,
    Revision,
    Rollout,
    State,
    Status,
    Verification,
    VerifyStep,
)
from phoenix_orch.rollout.store.store import RolloutStore

Check = Callable[[RolloutStore], Awaitable[None]]

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
SHOP = Rollout(
    name="shop",
    service="shop",
    route="shop",
    target="aaaa000000",
    spec=RolloutSpec(
        phases=(
            Phase(
                name="only",
                weight=5,
                duration=timedelta(minutes=10),
                limits=Limits.model_validate({"errorRate": "0.1%"}),
            ),
        )
    ),
)
EVIDENCE = MetricEvidence(
    metric="errorRate",
    observed=0.1 + 0.2,
    limit=0.001,
    stable=1e-9,
    samples=2**53 - 1,
    breached=True,
    window=timedelta(seconds=90, milliseconds=5),
)
VERDICT = Verdict(
    kind=VerdictKind.ROLLBACK,
    revision="bbbb000000",
    step=1,
    at=NOW,
    reason="3 of 10 requests failed: “größer” als erlaubt\n\t\x00\U0001f525",
    blame=("errorRate",),
    evidence=(EVIDENCE,),
)


def at(seconds: float) -> datetime:
    """A moment `seconds` after the checks' present."""
    return NOW + timedelta(seconds=seconds)


def event(number: int, reason: str = "Said") -> Event:
    return Event(at=at(number), reason=reason, message=f"message {number}", release=number)


def release(number: int, reason: str = "") -> Release:
    return Release(
        number=number, revision="bbbb000000", ended=at(number), outcome=Outcome.PROMOTED, reason=reason
    )


def command(identity: str, kind: CommandKind = CommandKind.PAUSE) -> Command:
    return Command(id=identity, kind=kind, actor="sam", at=NOW)


def revision(number: int) -> Revision:
    template = {"command": ["serve", "{port}"], "env": {"N": str(number)}, "ratio": 0.1, "none": None}
    return Revision(
        revision=f"{number:010x}", number=0, version=str(number), at=at(number), template=template
    )


def cause(reason: str, revision: str = "bbbb000000") -> Cause:
    return Cause(revision=revision, trigger="verdict", reason=reason, at=NOW, evidence=(EVIDENCE,))


def observation(number: int) -> Observation:
    arm = Arm(
        revision="bbbb000000",
        requests=10,
        errors=1,
        buckets=((0.005, 9), (math.inf, 1)),
        business={"orders": 2},
        cpu=0.1,
        memory=2**40,
        quality=Quality.MERGED,
    )
    return Observation(
        t0=at(number),
        t1=at(number + 1),
        revision="bbbb000000",
        step=0,
        weight_applied=5,
        canary=arm,
        stable=None,
        notes=(str(number),),
    )


async def refused(what: Awaitable[object], error: type[PhoenixError]) -> None:
    raised: PhoenixError | None = None
    try:
        await what
    except PhoenixError as refusal:
        raised = refusal
    assert type(raised) is error, f"{type(raised).__name__} instead of {error.__name__}"
    assert raised.message
    assert raised.remedy


async def an_empty_store_has_nothing(store: RolloutStore) -> None:
    assert await store.rollouts() == []
    await refused(store.get("shop"), NotFound)
    assert await store.events("shop") == []
    assert await store.history("shop") == []
    assert await store.revisions("shop") == []
    assert await store.observations("shop") == []
    assert await store.verdict("shop") is None
    assert await store.judged("shop") is None
    assert await store.verification("shop") is None
    assert await store.cause("shop", "bbbb000000") is None
    await store.clear_cause("shop", "bbbb000000")
    await store.remove("shop")


async def nothing_is_written_to_an_unknown_rollout(store: RolloutStore) -> None:
    await refused(store.command("shop", command("c1")), NotFound)
    await refused(store.append_events("shop", [event(1)]), NotFound)
    await refused(store.append_observation("shop", observation(1)), NotFound)
    await refused(store.put_verdict("shop", VERDICT, "{}"), NotFound)
    await refused(store.put_cause("shop", cause("why")), NotFound)
    await refused(
        store.put_verification(
            "shop", Verification(kind="promotion", revision="bbbb000000", release=1, at=NOW)
        ),
        NotFound,
    )
    await refused(store.save(SHOP.model_copy(update={"version": 1}), Status(), events=[event(1)]), Conflict)
    await refused(store.save(SHOP, Status(), events=[event(1)]), Conflict)
    await refused(store.put(SHOP.model_copy(update={"version": 1})), Conflict)
    await store.put(SHOP)
    assert await store.events("shop") == []
    assert await store.observations("shop") == []


async def version_0_creates_once(store: RolloutStore) -> None:
    created = await store.put(SHOP)
    assert created.version > 0
    assert created == SHOP.model_copy(update={"version": created.version})
    assert await store.get("shop") == created
    await refused(store.put(SHOP), Conflict)
    assert await store.get("shop") == created


async def a_new_rollout_starts_without_status_and_commands(store: RolloutStore) -> None:
    given = SHOP.model_copy(update={"status": Status(release=7), "commands": (command("c1"),)})
    created = await store.put(given)
    assert created.status == Status()
    assert created.commands == ()


async def put_replaces_what_is_wanted_and_nothing_else(store: RolloutStore) -> None:
    created = await store.put(SHOP)
    await store.command("shop", command("c1"))
    saved = await store.save(await store.get("shop"), Status(release=3, stable="aaaa000000"))
    wanted = saved.model_copy(
        update={
            "target": "bbbb000000",
            "replicas": 9,
            "fast": True,
            "status": Status(),
            "commands": (),
        }
    )
    written = await store.put(wanted)
    assert written.version > saved.version > created.version
    assert written.status == saved.status
    assert written.commands == saved.commands == (command("c1"),)
    assert (written.target, written.replicas, written.fast) == ("bbbb000000", 9, True)
    assert await store.get("shop") == written


async def an_old_version_conflicts_and_changes_nothing(store: RolloutStore) -> None:
    old = await store.put(SHOP)
    current = await store.save(old, Status(release=1), events=[event(1)])
    await refused(store.put(old.model_copy(update={"replicas": 5})), Conflict)
    await refused(
        store.save(old, Status(release=2), events=[event(2)], release=release(2)),
        Conflict,
    )
    await refused(store.put(current.model_copy(update={"version": current.version + 1})), Conflict)
    assert await store.get("shop") == current
    assert await store.events("shop") == [event(1)]
    assert await store.history("shop") == []


async def one_of_many_writers_wins(store: RolloutStore) -> None:
    created = await store.put(SHOP)

    async def write(number: int) -> int:
        try:
            await store.save(created, Status(release=number), events=[event(number)])
        except Conflict:
            return 0
        return number

    winners = [number for number in await asyncio.gather(*map(write, range(1, 11))) if number]
    assert len(winners) == 1
    assert (await store.get("shop")).status.release == winners[0]
    assert await store.events("shop") == [event(winners[0])]


async def a_save_is_one_step(store: RolloutStore) -> None:
    await store.put(SHOP)
    for identity in ("c1", "c2", "c3"):
        await store.command("shop", command(identity))
    before = await store.get("shop")
    assert [waiting.id for waiting in before.commands] == ["c1", "c2", "c3"]
    status = Status(
        state=State.PROGRESSING,
        since=NOW,
        message="5 % for 10m",
        stable="aaaa000000",
        canary="bbbb000000",
        release=1,
        step_clock=at(1),
        weight=5,
        cause=cause("before"),
        handled=("c0", "c1", "c3"),
    )
    saved = await store.save(before, status, events=[event(1), event(2)], release=release(1))
    assert saved.status == status
    assert saved.commands == (command("c2"),)
    assert saved.version > before.version
    assert await store.get("shop") == saved
    assert await store.events("shop") == [event(1), event(2)]
    assert await store.history("shop") == [release(1)]


async def save_writes_the_status_alone(store: RolloutStore) -> None:
    created = await store.put(SHOP)
    meddled = created.model_copy(update={"replicas": 50, "commands": (command("made-up"),)})
    saved = await store.save(meddled, Status(release=1))
    assert saved.replicas == SHOP.replicas
    assert saved.commands == ()
    assert await store.get("shop") == saved


async def a_command_is_kept_once_and_makes_older_decisions_conflict(store: RolloutStore) -> None:
    read = await store.put(SHOP)
    await store.command("shop", command("c1", CommandKind.ABORT))
    await refused(store.save(read, Status(weight=20)), Conflict)
    await store.command("shop", command("c1", CommandKind.ABORT))
    read = await store.get("shop")
    assert read.commands == (command("c1", CommandKind.ABORT),)
    handled = await store.save(read, Status(handled=("c1",)))
    assert handled.commands == ()
    await store.command("shop", command("c1", CommandKind.ABORT))
    assert await store.get("shop") == handled


async def rollouts_come_by_name_and_apart(store: RolloutStore) -> None:
    for name in ("shop", "api", "web-2"):
        await store.put(SHOP.model_copy(update={"name": name}))
    await store.command("api", command("c1"))
    await store.append_events("web-2", [event(1)])
    found = await store.rollouts()
    assert [rollout.name for rollout in found] == ["api", "shop", "web-2"]
    assert found == [await store.get(rollout.name) for rollout in found]
    assert await store.events("shop") == []


async def events_come_oldest_first(store: RolloutStore) -> None:
    read = await store.put(SHOP)
    for number in range(1, 4):
        read = await store.save(read, read.status, events=[event(number)])
    await store.append_events("shop", [event(4), event(5)])
    assert await store.events("shop") == [event(number) for number in range(1, 6)]
    assert await store.events("shop", limit=2) == [event(4), event(5)]
    assert await store.events("shop", limit=0) == []
    await store.append_events("shop", [])
    assert len(await store.events("shop")) == 5


async def an_append_may_be_repeated(store: RolloutStore) -> None:
    await store.put(SHOP)
    for _ in range(2):
        await store.append_events("shop", [event(1), event(2)])
        await store.append_observation("shop", observation(1))
    await store.append_events("shop", [event(3)])
    assert await store.events("shop") == [event(1), event(2), event(3)]
    assert await store.observations("shop") == [observation(1)]


async def events_are_capped(store: RolloutStore) -> None:
    await store.put(SHOP)
    for start in range(0, 11_000, 500):
        await store.append_events("shop", [event(number) for number in range(start, start + 500)])
    kept = await store.events("shop", limit=20_000)
    assert 10_000 <= len(kept) <= 10_500
    assert kept[-1] == event(10_999)
    assert kept == [event(number) for number in range(11_000 - len(kept), 11_000)]


async def history_is_by_number_and_written_twice_is_written_once(store: RolloutStore) -> None:
    read = await store.put(SHOP)
    for turn, number in enumerate((2, 1, 3, 10, 3), start=1):
        read = await store.save(read, read.status, release=release(number, reason=f"turn {turn}"))
    assert [(r.number, r.reason) for r in await store.history("shop")] == [
        (10, "turn 4"),
        (3, "turn 5"),
        (2, "turn 1"),
        (1, "turn 2"),
    ]
    assert [r.number for r in await store.history("shop", limit=2)] == [10, 3]
    assert await store.history("shop", limit=0) == []


async def history_is_bounded(store: RolloutStore) -> None:
    read = await store.put(SHOP)
    for number in range(1, 206):
        read = await store.save(read, read.status, release=release(number))
    assert [r.number for r in await store.history("shop", limit=500)] == list(range(205, 5, -1))


async def revisions_are_numbered_and_keep_their_number(store: RolloutStore) -> None:
    assert (await store.add_revision("shop", revision(7))).number == 1
    await store.put(SHOP)
    assert (await store.add_revision("shop", revision(5))).number == 2
    again = await store.add_revision("shop", revision(7))
    assert again == revision(7).model_copy(update={"number": 1})
    assert [r.number for r in await store.revisions("shop")] == [1, 2]
    (await store.revisions("shop"))[0].template["command"] = "meddled with"
    assert (await store.revisions("shop"))[0] == again


async def revisions_are_bounded_but_never_those_in_use(store: RolloutStore) -> None:
    for number in range(1, 7):
        await store.add_revision("shop", revision(number))
    name = {number: revision(number).revision for number in range(1, 7)}
    read = await store.put(SHOP.model_copy(update={"target": name[1], "applied": name[2]}))
    await store.save(read, Status(stable=name[3], canary=name[4], previous=name[5]))
    await store.put_cause("shop", cause("old", revision=name[6]))
    for number in range(7, 61):
        assert (await store.add_revision("shop", revision(number))).number == number
    numbers = [r.number for r in await store.revisions("shop")]
    assert numbers == [1, 2, 3, 4, 5, *range(11, 61)]
    assert await store.cause("shop", name[6]) is None


async def the_verdict_comes_with_its_judge_state(store: RolloutStore) -> None:
    await store.put(SHOP)
    for number, state in enumerate(('{"n": 1}', "", "état\n")):
        verdict = VERDICT.model_copy(update={"reason": f"{VERDICT.reason} {number}"})
        await store.put_verdict("shop", verdict, state)
        assert await store.verdict("shop") == (verdict, state)


async def an_older_verdict_does_not_win(store: RolloutStore) -> None:
    """Who was stopped for a while is not the one who judges now. Fractions of a second count."""
    await store.put(SHOP)
    newer = VERDICT.model_copy(update={"at": NOW.replace(microsecond=500)})
    older = VERDICT.model_copy(update={"at": NOW.replace(microsecond=0)})
    await store.put_verdict("shop", newer, "newer")
    await refused(store.put_verdict("shop", older, "older"), Conflict)
    assert await store.verdict("shop") == (newer, "newer")
    await store.put_verdict("shop", newer, "again")
    assert await store.verdict("shop") == (newer, "again")
    assert await store.judged("shop") == newer
    await store.put_verdict("shop", older, "the clock was set back", clock_back=True)
    assert await store.verdict("shop") == (older, "the clock was set back")
    await store.put_verdict("shop", newer, "on from there")
    assert await store.verdict("shop") == (newer, "on from there")


async def observations_come_oldest_first(store: RolloutStore) -> None:
    await store.put(SHOP)
    for number in range(10):
        await store.append_observation("shop", observation(number))
    everything = [observation(number) for number in range(10)]
    assert await store.observations("shop") == everything
    assert await store.observations("shop", limit=3) == everything[-3:]
    assert await store.observations("shop", since=at(8)) == everything[7:]
    assert await store.observations("shop", since=at(8), limit=2) == everything[8:]
    assert await store.observations("shop", since=at(1000)) == []
    assert await store.observations("shop", limit=0) == []


async def the_first_cause_of_a_release_stays(store: RolloutStore) -> None:
    read = await store.put(SHOP)
    read = await store.save(read, Status(release=1))
    await store.put_cause("shop", cause("first"))
    await store.put_cause("shop", cause("second"))
    await store.put_cause("shop", cause("other", revision="cccc000000"))
    assert await store.cause("shop", "bbbb000000") == cause("first")
    assert await store.cause("shop", "cccc000000") == cause("other", revision="cccc000000")
    await store.save(read, Status(release=2))
    await store.put_cause("shop", cause("of the second release"))
    assert await store.cause("shop", "bbbb000000") == cause("of the second release")
    await store.clear_cause("shop", "bbbb000000")
    assert await store.cause("shop", "bbbb000000") is None
    assert await store.cause("shop", "cccc000000") is not None


async def the_last_verification_counts(store: RolloutStore) -> None:
    await store.put(SHOP)
    for number in (1, 2):
        result = Verification(
            kind="promotion",
            revision="bbbb000000",
            release=number,
            at=at(number),
            steps=(VerifyStep(name="health", ok=False, detail="503", unknown=True),),
        )
        await store.put_verification("shop", result)
        assert await store.verification("shop") == result
    await store.put_verdict("shop", VERDICT, "{}")
    assert (await store.verification("shop")) is not None


async def remove_forgets_everything(store: RolloutStore) -> None:
    read = await store.put(SHOP)
    await store.add_revision("shop", revision(1))
    await store.command("shop", command("c1"))
    await store.append_observation("shop", observation(1))
    await store.put_verdict("shop", VERDICT, "{}")
    await store.put_cause("shop", cause("why"))
    await store.put_verification(
        "shop", Verification(kind="promotion", revision="bbbb000000", release=1, at=NOW)
    )
    read = await store.get("shop")
    read = await store.save(read, Status(release=1), events=[event(1)], release=release(1))
    await store.remove("shop")
    await an_empty_store_has_nothing(store)
    created = await store.put(SHOP)
    assert created.commands == ()
    assert created.status == Status()
    assert await store.events("shop") == []
    assert (await store.add_revision("shop", revision(2))).number == 1


async def a_writer_from_before_a_removal_does_not_win(store: RolloutStore) -> None:
    old = await store.put(SHOP)
    await store.remove("shop")
    created = await store.put(SHOP)
    assert created.version > old.version
    await refused(store.save(old, Status(release=1)), Conflict)
    assert await store.get("shop") == created


async def watch_tells_names(store: RolloutStore) -> None:
    names: asyncio.Queue[str] = asyncio.Queue()

    async def listen() -> None:
        async for name in store.watch(timeout=timedelta(seconds=30)):
            names.put_nowait(name)

    async def told(name: str) -> None:
        while await names.get() != name:
            pass

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        listener = group.create_task(listen())
        await told("")  # from here on nothing is missed
        read = await store.put(SHOP)
        await told("shop")
        await store.save(read, Status(release=1))
        await told("shop")
        await store.command("shop", command("c1"))
        await told("shop")
        await store.put_verdict("shop", VERDICT, "{}")
        await told("shop")
        await store.put_cause("shop", cause("why"))
        await told("shop")
        await store.remove("shop")
        await told("shop")
        listener.cancel()


async def watch_speaks_up_in_silence(store: RolloutStore) -> None:
    async with asyncio.timeout(10):
        count = 0
        async for name in store.watch(timeout=timedelta(milliseconds=20)):
            assert name == ""
            count += 1
            if count == 5:
                break


CONTRACT: tuple[Check, ...] = (
    an_empty_store_has_nothing,
    nothing_is_written_to_an_unknown_rollout,
    version_0_creates_once,
    a_new_rollout_starts_without_status_and_commands,
    put_replaces_what_is_wanted_and_nothing_else,
    an_old_version_conflicts_and_changes_nothing,
    one_of_many_writers_wins,
    a_save_is_one_step,
    save_writes_the_status_alone,
    a_command_is_kept_once_and_makes_older_decisions_conflict,
    rollouts_come_by_name_and_apart,
    events_come_oldest_first,
    an_append_may_be_repeated,
    events_are_capped,
    history_is_by_number_and_written_twice_is_written_once,
    history_is_bounded,
    revisions_are_numbered_and_keep_their_number,
    revisions_are_bounded_but_never_those_in_use,
    the_verdict_comes_with_its_judge_state,
    an_older_verdict_does_not_win,
    observations_come_oldest_first,
    the_first_cause_of_a_release_stays,
    the_last_verification_counts,
    remove_forgets_everything,
    a_writer_from_before_a_removal_does_not_win,
    watch_tells_names,
    watch_speaks_up_in_silence,
)

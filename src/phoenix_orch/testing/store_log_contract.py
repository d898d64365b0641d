"""What a RolloutStore has to do with what it keeps beside a rollout: events, history, revisions, and what the
other processes say.

Logs may be trimmed in chunks, so their caps are checked with some slack.
"""

from __future__ import annotations

from phoenix_orch.kernel.errors import Conflict
from phoenix_orch.rollout.status import Status, Verification, VerifyStep
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.testing.refusals import refused
from phoenix_orch.testing.store_samples import (
    NOW,
    SHOP,
    VERDICT,
    at,
    cause,
    event,
    observation,
    release,
    revision,
)


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


LOG_CONTRACT = (
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
)

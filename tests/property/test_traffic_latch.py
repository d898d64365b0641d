"""Rule R4 under random interleavings: two writers, an aborter and a person, over both routers.

Every operation is split into its read and its write, so that hypothesis can put others in between.
"""

import asyncio
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix_orch.kernel.errors import Conflict, Latched, PhoenixError
from phoenix_orch.testing.fake_router import FakeRouter
from phoenix_orch.testing.router_contract import ROUTE, group
from phoenix_orch.traffic.embedded import EmbeddedRouter
from phoenix_orch.traffic.router import TrafficRouter, TrafficState

REVISIONS = ("a", "b", "c")
revisions = st.sampled_from(REVISIONS)
steps = st.one_of(
    st.tuples(st.just("read"), st.integers(0, 1)),
    st.tuples(st.just("shift"), st.integers(0, 1), revisions, st.integers(0, 100)),
    st.tuples(st.just("promote"), st.integers(0, 1), revisions),
    st.tuples(st.just("forget"), st.integers(0, 1)),
    st.tuples(st.just("abort"), revisions),
    st.tuples(st.just("retry"), revisions),
)


async def play(router: TrafficRouter, story: list[tuple[object, ...]]) -> None:
    start = await router.write(TrafficState(route=ROUTE, stable=group("a", 20001)))
    held = [start, start]
    latched: set[str] = set()
    versions = [start.version]
    for name, *arguments in story:
        before = await router.read(ROUTE)
        match name, arguments:
            case "read", [int(writer)]:
                held[writer] = before
            case "abort", [str(revision)]:
                await router.abort(ROUTE, revision)
                latched.add(revision)
            case "retry", [str(revision)]:
                await router.clear_latch(ROUTE, revision)
                latched.discard(revision)
            case _, [int(writer), *rest]:
                old = held[writer]
                written, refusal = await _tried(router, old.model_copy(update=_change(name, old, rest)))
                assert isinstance(refusal, Conflict) == (old.version != before.version)
                held[writer] = written or old
        after = await router.read(ROUTE)
        versions.append(after.version)
        _holds(before, after, latched)
    assert versions == sorted(versions)
    assert all(later - earlier <= 1 for earlier, later in pairwise(versions))


async def _tried(
    router: TrafficRouter, wanted: TrafficState
) -> tuple[TrafficState | None, PhoenixError | None]:
    try:
        return await router.write(wanted), None
    except (Conflict, Latched) as refusal:
        return None, refusal


def _change(name: object, old: TrafficState, rest: list[object]) -> dict[str, object]:
    match name, rest:
        case "shift", [str(revision), weight]:
            return {"canary": group(revision, 20002), "weight": weight}
        case "promote", [str(revision)]:
            return {"stable": group(revision, 20003), "previous": old.stable, "canary": None, "weight": 0}
    return {"aborted": ()}


def _holds(before: TrafficState, after: TrafficState, latched: set[str]) -> None:
    assert latched <= set(after.aborted)
    assert after.stable.backends, "stable always serves"
    if after.canary and after.canary.revision in latched:
        assert after.weight == 0, "an aborted revision carries traffic"
    if after.stable.revision in latched:
        # It may only be there because it was there already, with nothing to go back to.
        assert after.stable.revision == before.stable.revision


def run(make: Callable[[], TrafficRouter], story: list[tuple[object, ...]]) -> None:
    asyncio.run(play(make(), story))


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=30))
def test_fake(story: list[tuple[object, ...]]) -> None:
    run(FakeRouter, story)


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, max_size=20))
def test_embedded(story: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        run(lambda: EmbeddedRouter(Path(directory)), story)

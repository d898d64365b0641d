"""From counters to an observation: which numbers, and how far they can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from phoenix_orch.health_validator.counters import Sample
from phoenix_orch.health_validator.observation import Arm, Observation, Quality
from phoenix_orch.health_validator.sources.assemble import Snapshot, assemble
from phoenix_orch.health_validator.sources.exposition import Key
from phoenix_orch.health_validator.sources.processes import Processes, kernel_name
from phoenix_orch.health_validator.sources.source import Context, SourceMemory
from phoenix_orch.rollout.spec import BusinessMetric, PlainValue
from phoenix_orch.workload.workload import Exit, Instance, InstanceState, WorkloadState

START = datetime(2026, 1, 1, tzinfo=UTC)
ORDERS = BusinessMetric(name="orders", counter="orders_total", min_per_request=0.1)
PORTS = {"new": 20001, "old": 20002}
ROUTED = frozenset(f"http://127.0.0.1:{port}" for port in PORTS.values())


class Scene:
    """Scrapes ten seconds apart, of the router or of the processes."""

    def __init__(self, *, by: str = "processes", **context: Any) -> None:
        self.by, self.now, self.memory = by, 0, SourceMemory()
        self.more = {"weight": 20, "stable": "old", **context}

    def scrape(
        self,
        counted: dict[str, tuple[str, Sequence[tuple[str, str, float]]]],
        *,
        wanted: Sequence[tuple[str, str]] = (("new-1", "new"), ("old-1", "old")),
        after: float = 10,
        exits: tuple[Exit, ...] = (),
        usage: dict[str, tuple[float, int]] | None = None,
        values: dict[str, dict[str, float]] | None = None,
        gone: Sequence[str] = (),
    ) -> Observation:
        """`counted`: by process (its revision, (kind, name, value) of each series). `gone`: instances that
        ended and wait for their next start."""
        before, self.now = self.now, self.now + after
        t0, t1 = START + timedelta(seconds=before), START + timedelta(seconds=self.now)
        instances = tuple(
            Instance(
                name=name,
                revision=revision,
                state=InstanceState.BACKOFF if name in gone else InstanceState.READY,
                port=PORTS[revision],
                started=1.0,
                ready_since=None if name in gone else datetime.fromtimestamp(1000 + self.now - 3, UTC),
            )
            for name, revision in wanted
        )
        context = Context(
            rollout="web",
            route="web",
            revision="new",
            step=0,
            t0=t0,
            t1=t1,
            interval=timedelta(seconds=10),
            workload=WorkloadState(service="web", at=t1, instances=instances, exits=exits),
            business=(ORDERS,),
            **self.more,
        )
        processes = Processes(values=values or {})
        samples = [
            Sample(name, 1.0, tuple((str(Key(revision, k, n, "")), v) for k, n, v in series))
            for name, (revision, series) in counted.items()
        ]
        for name, (cpu, memory) in (usage or {}).items():
            key = str(Key("new", "cpu", "", ""))
            processes.samples.append(Sample(kernel_name(name), 1.0, ((key, cpu * 1000),)))
            processes.memory[name] = memory
        names = {r: tuple(n for n, own in wanted if own == r) for r in context.revisions}
        if self.by == "processes":
            processes.samples.extend(samples)
            processes.answered.update(counted)
        snapshot = Snapshot(
            wall=1000.0 + self.now,
            cores=2,
            traffic=names if self.by == "processes" else dict.fromkeys(context.revisions, ("router",)),
            samples=samples if self.by == "router" else (),
            processes=processes,
            outside=self.by == "router",
        )
        reading = assemble(context, self.memory, snapshot)
        self.memory = SourceMemory.model_validate_json(reading.memory.model_dump_json())
        return reading.observation


def page(ok: int, error: int = 0, orders: float = 0) -> list[tuple[str, str, float]]:
    return [
        ("ok", "", ok),
        ("error", "", error),
        ("le", "0.1", ok),
        ("le", "inf", ok + error),
        ("business", "orders", orders),
    ]


def both(new: int, old: int, **more: Any) -> dict[str, tuple[str, Sequence[tuple[str, str, float]]]]:
    return {"new-1": ("new", page(new, **more)), "old-1": ("old", page(old))}


def test_increases_of_both_arms() -> None:
    scene = Scene()
    first = scene.scrape(both(100, 1000))
    assert first.canary.quality is Quality.GAP
    assert first.notes == ("counting begins with this reading",)
    seen = scene.scrape(both(120, 1080, error=5, orders=7))
    assert (seen.canary.requests, seen.canary.errors) == (25, 5)
    assert seen.canary.buckets == ((0.1, 20), (math.inf, 5))
    assert seen.canary.business == {"orders": 7}
    assert (seen.canary.quality, seen.canary.processes) == (Quality.OK, 1)
    assert seen.stable is not None
    assert (seen.stable.requests, seen.stable.errors, seen.stable.revision) == (80, 0, "old")
    assert seen.notes == ()


def left(ok: int, gone: int) -> list[tuple[str, str, float]]:
    return [*page(ok), ("abandoned", "", gone), ("waited", "0.1", gone - 1), ("waited", "inf", gone)]


def test_requests_given_up_on_are_counted_by_themselves() -> None:
    scene = Scene()
    scene.scrape({"new-1": ("new", left(100, 1)), "old-1": ("old", page(1000))})
    seen = scene.scrape({"new-1": ("new", left(120, 5)), "old-1": ("old", page(1080))})
    assert (seen.canary.requests, seen.canary.errors, seen.canary.abandoned) == (20, 0, 4)
    assert seen.canary.arrived == 24
    assert seen.canary.buckets == ((0.1, 20), (math.inf, 0))
    assert seen.canary.waited == ((0.1, 4), (math.inf, 0))
    assert seen.stable is not None
    assert (seen.stable.abandoned, seen.stable.waited) == (0, ())


def test_counters_of_a_canary_that_everybody_gives_up_on_do_not_stand_still() -> None:
    scene = Scene()
    for number in range(1, 6):
        seen = scene.scrape(
            {"new-1": ("new", left(100, 1 + 20 * number)), "old-1": ("old", page(1000 + 100 * number))}
        )
    assert (seen.canary.quality, seen.canary.requests, seen.canary.abandoned) == (Quality.OK, 0, 20)
    assert seen.canary.unanswered


def test_a_business_counter_may_count_in_fractions() -> None:
    scene = Scene()
    scene.scrape(both(100, 1000, orders=12.5))
    assert scene.scrape(both(110, 1010, orders=12.9)).canary.business == {"orders": 0.4}
    seen = scene.scrape(both(120, 1020, orders=13.3))
    assert Observation.model_validate_json(seen.model_dump_json()) == seen
    assert seen.canary.business == {"orders": 0.4}


def test_an_observation_recorded_in_whole_numbers_can_still_be_read() -> None:
    arm = Arm.model_validate_json('{"revision": "new", "requests": 5, "business": {"orders": 2}}')
    assert arm.business == {"orders": 2}
    assert '"orders":2}' in arm.model_dump_json()


def test_one_router_counts_for_both() -> None:
    scene = Scene(by="router")
    series = [(kind, name, value) for kind, name, value in page(100)]
    scene.scrape({"router": ("old", series)})
    more = [(kind, name, value + 50 if kind == "ok" else value) for kind, name, value in series]
    seen = scene.scrape({"router": ("old", more)})
    assert seen.stable is not None
    assert (seen.canary.requests, seen.stable.requests) == (0, 50)
    assert (seen.canary.quality, seen.canary.business) == (Quality.OK, {})  # pages were not read


def test_nobody_answers() -> None:
    scene = Scene()
    scene.scrape(both(100, 1000))
    seen = scene.scrape({})
    assert seen.stable is not None
    assert {seen.canary.quality, seen.stable.quality} == {Quality.GAP}
    after = scene.scrape(both(130, 1100))
    assert (after.canary.requests, after.canary.quality) == (30, Quality.MERGED)


def test_one_of_two_processes_does_not_answer() -> None:
    wanted = (("new-1", "new"), ("new-2", "new"), ("old-1", "old"))
    scene = Scene()
    three = {**both(100, 1000), "new-2": ("new", page(50, orders=5))}
    scene.scrape(three, wanted=wanted)
    seen = scene.scrape(both(110, 1010), wanted=wanted)
    assert (seen.canary.requests, seen.canary.quality) == (10, Quality.PARTIAL)
    assert seen.canary.business == {}  # half of the orders would look like too few
    after = scene.scrape({**both(120, 1020), "new-2": ("new", page(70))}, wanted=wanted)
    assert (after.canary.requests, after.canary.quality) == (30, Quality.MERGED)


def test_an_unusable_value_is_partial() -> None:
    scene = Scene()
    scene.scrape(both(100, 1000))
    broken = both(110, 1010)
    broken["new-1"] = ("new", [*page(110)[1:], ("ok", "", math.nan)])
    assert scene.scrape(broken).canary.quality is Quality.PARTIAL


def test_a_late_observation_is_merged() -> None:
    scene = Scene()
    scene.scrape(both(100, 1000))
    assert scene.scrape(both(200, 2000), after=31).canary.quality is Quality.MERGED


def test_no_process_is_ready() -> None:
    scene = Scene()
    seen = scene.scrape({"old-1": ("old", page(10))}, wanted=(("old-1", "old"),))
    assert (seen.canary.quality, seen.canary.processes) == (Quality.GAP, 0)
    assert seen.notes == ("no process of it is ready",)


def test_standing_still_while_stable_is_busy_is_stale() -> None:
    scene = Scene()
    kinds = [scene.scrape(both(100, 1000 + 10 * n)).canary.quality for n in range(5)]
    assert kinds == [Quality.GAP, Quality.OK, Quality.OK, Quality.STALE, Quality.STALE]
    assert scene.scrape(both(101, 1050)).canary.quality is Quality.OK


def test_cpu_memory_and_restarts() -> None:
    wanted = (("new-1", "new"), ("new-2", "new"), ("old-1", "old"))
    exits = tuple(
        Exit(instance="new-1", revision=revision, at=START + timedelta(seconds=at))
        for revision, at in (("new", 10), ("new", 11), ("new", 20), ("new", 21), ("old", 15))
    )
    scene = Scene()
    first = scene.scrape(both(1, 1), wanted=wanted, usage={"new-1": (1.0, 50), "new-2": (1.0, 70)})
    assert first.canary.cpu is None  # no time has passed
    seen = scene.scrape(
        both(1, 1), wanted=wanted, usage={"new-1": (6.0, 50), "new-2": (3.0, 70)}, exits=exits
    )
    assert seen.canary.cpu == 0.25  # 5 of 10 seconds on one of two cores
    assert seen.canary.memory == 70
    assert seen.canary.restarts == 2


def test_baking_has_nothing_to_compare_with() -> None:
    scene = Scene(stable=None, weight=100)
    scene.scrape({"new-1": ("new", page(1))}, wanted=(("new-1", "new"),))
    seen = scene.scrape({"new-1": ("new", page(9))}, wanted=(("new-1", "new"),))
    assert (seen.stable, seen.canary.requests, seen.canary.quality) == (None, 8, Quality.OK)


def test_processes_with_different_layouts_meet_on_common_edges() -> None:
    wanted = (("new-1", "new"), ("new-2", "new"))
    scene = Scene(stable=None)

    def layouts(n: int) -> dict[str, tuple[str, list[tuple[str, str, float]]]]:
        one = [("ok", "", n), ("le", "0.1", n), ("le", "inf", n)]
        two = [("ok", "", n), ("le", "0.1", n), ("le", "0.2", n), ("le", "inf", n)]
        return {"new-1": ("new", one), "new-2": ("new", two)}

    scene.scrape(layouts(0), wanted=wanted)
    seen = scene.scrape(layouts(10), wanted=wanted)
    assert seen.canary.buckets == ((0.1, 20), (math.inf, 0))


def test_a_plain_value_is_the_worst_of_all_processes_or_unknown() -> None:
    kept = (
        PlainValue(name="queue", gauge="queue", maximum=50),
        PlainValue(name="success", gauge="success", minimum=0.9),
    )
    scene = Scene(values=kept)
    wanted = (("new-1", "new"), ("new-2", "new"), ("old-1", "old"))
    told = {"new-1": {"queue": 3.0, "success": 0.9}, "new-2": {"queue": 7.0}, "old-1": {"queue": 1.0}}
    seen = scene.scrape({}, wanted=wanted, values=told)
    assert seen.canary.values == {"queue": 7.0}
    assert seen.stable is not None
    assert seen.stable.values == {"queue": 1.0}


def routed(old: int, failed: int = 0) -> dict[str, tuple[str, Sequence[tuple[str, str, float]]]]:
    """The router's page: requests of stable, with and without an error."""
    return {"router": ("old", page(old, failed))}


def stable_of(seen: Observation) -> Arm:
    assert seen.stable is not None
    return seen.stable


def test_what_the_router_answers_while_nobody_of_a_variant_is_there_is_not_counted() -> None:
    scene = Scene(by="router", backends=ROUTED)
    scene.scrape(routed(100), gone=["old-1"])
    away = scene.scrape(routed(100, failed=500), gone=["old-1"])
    found = stable_of(away)
    assert (found.requests, found.errors, found.buckets, found.quality) == (0, 0, (), Quality.GAP)
    assert found.unserved == 10
    assert away.notes == ("no instance of old was ready for 10 s; what the router answered is not counted",)
    back = stable_of(scene.scrape(routed(120, failed=700)))
    assert (back.requests, back.quality, back.unserved) == (0, Quality.GAP, 7), "it is ready since 3 s"
    after = stable_of(scene.scrape(routed(180, failed=701)))
    assert (after.requests, after.errors, after.quality, after.unserved) == (61, 1, Quality.OK, 0)


def test_the_errors_of_an_instance_that_is_believed_ready_stay_the_versions() -> None:
    scene = Scene(by="router", backends=ROUTED)
    scene.scrape(routed(100))
    assert stable_of(scene.scrape(routed(100, failed=50))).errors == 50
    died = stable_of(scene.scrape(routed(100, failed=90), gone=["old-1"]))
    assert (died.errors, died.unserved) == (40, 0), "it was ready when the interval began"


def test_an_instance_that_comes_and_ends_between_two_readings_hides_nothing() -> None:
    """A version that breaks under load is there for a moment, again and again."""
    scene = Scene(by="router", backends=ROUTED)
    scene.scrape(routed(100), gone=["old-1"])
    for number in (1, 2, 3):
        ends = tuple(
            Exit(instance="old-1", revision="old", at=START + timedelta(seconds=n)) for n in range(number)
        )
        seen = stable_of(scene.scrape(routed(100, failed=20 * number), gone=["old-1"], exits=ends))
        assert (seen.errors, seen.quality) == (20, Quality.OK)
    assert stable_of(scene.scrape(routed(100, failed=99), gone=["old-1"], exits=ends)).errors == 0


def test_a_variant_that_nothing_is_sent_to_while_nobody_is_there_keeps_its_first_counts() -> None:
    """The table names nobody until an instance is ready: all that is counted is the version's."""
    scene = Scene(by="router", backends=frozenset())
    scene.scrape(routed(0), gone=["old-1"])
    scene.scrape(routed(0), gone=["old-1"])
    seen = stable_of(scene.scrape(routed(30, failed=2)))
    assert (seen.requests, seen.errors, seen.quality, seen.unserved) == (32, 2, Quality.OK, 7)


def test_a_canary_that_was_not_meant_to_serve_yet_lacked_nobody() -> None:
    scene = Scene(by="router", backends=ROUTED, weight=0)
    scene.scrape(routed(100), gone=["new-1"])
    seen = scene.scrape(routed(150))
    assert (seen.canary.unserved, seen.canary.quality, seen.notes) == (0, Quality.OK, ())


def test_a_silent_router_does_not_make_an_interval_begin_with_nobody() -> None:
    scene = Scene(by="router", backends=ROUTED)
    scene.scrape(routed(100))
    scene.scrape({}, gone=["old-1"])
    seen = stable_of(scene.scrape(routed(100, failed=30)))
    assert (seen.errors, seen.quality) == (30, Quality.MERGED), "it broke after the last count"


def test_what_is_remembered_of_a_phoenix_before_can_be_read() -> None:
    stored = SourceMemory().model_dump(mode="json")
    del stored["serving"]
    assert SourceMemory.model_validate(stored) == SourceMemory()

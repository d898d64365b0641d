"""Increases never exceed what happened, and equal it whenever that can be known."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix_orch.health_validator.counters import Deltas, Sample, TrackerState, update

KEYS = ("requests|200", "requests|500")


@dataclass
class Process:
    """A real process: it counts from zero, and all of its counts are lost when it restarts."""

    started: float
    count: int = 0
    alive: bool = True

    def sample(self, name: str, *, tells_start: bool = True) -> Sample:
        half = self.count // 2
        series = ((KEYS[0], float(half)), (KEYS[1], float(self.count - half)))
        return Sample(name, self.started if tells_start else None, series)


def seen(deltas: Deltas) -> int:
    assert all(value >= 0 for increase in deltas.increases.values() for value in increase.values.values())
    return sum(sum(increase.values.values()) for increase in deltas.increases.values())


names = st.sampled_from(("a", "b", "c"))
happenings = st.one_of(
    st.tuples(st.just("count"), names, st.integers(0, 1000)),
    st.tuples(st.just("restart"), names, st.just(0)),
    st.tuples(st.just("vanish"), names, st.just(0)),
    st.tuples(st.just("scrape"), st.sampled_from(("all", "but a", "nobody", "twice", "nan")), st.just(0)),
    st.tuples(st.just("late"), st.just(""), st.integers(0, 200)),
    st.tuples(st.just("store"), st.just(""), st.just(0)),
)


@given(st.lists(happenings, max_size=60), st.booleans())
def test_never_negative_and_never_above_the_truth(story: list[tuple[str, str, int]], tells: bool) -> None:
    now, state, truth, counted = 1000.0, TrackerState(), 0, 0
    processes: dict[str, Process] = {}
    for kind, name, number in story:
        now += 5.0
        if kind == "count":
            process = processes.setdefault(name, Process(started=now))
            if process.alive:
                process.count += number
                truth += number
        elif kind == "restart":
            processes[name] = Process(started=now)
        elif kind == "vanish" and name in processes:
            processes[name].alive = False
        elif kind == "store":
            state = TrackerState.model_validate_json(state.model_dump_json())
        elif kind in ("scrape", "late"):
            answers = [p.sample(n, tells_start=tells) for n, p in processes.items() if p.alive]
            if name == "nobody":
                answers = []
            elif name == "but a":
                answers = [answer for answer in answers if answer.process != "a"]
            elif name == "twice":
                answers = [Sample(s.process, s.started, (*s.series, *s.series)) for s in answers]
            elif name == "nan":
                answers = [
                    Sample(s.process, s.started, ((KEYS[0], float("nan")), s.series[1])) for s in answers
                ]
            state, deltas = update(state, answers, now - number)
            counted += seen(deltas)
            assert counted <= truth


@st.composite
def knowable(draw: st.DrawFn) -> list[tuple[str, str, int]]:
    """Stories in which nothing is lost: whoever restarts or leaves was read just before, and a process of
    a new name answers from the first scrape on."""
    story: list[tuple[str, str, int]] = [("start", "a", 0), ("scrape", "", 0)]
    known = {"a"}
    for _ in range(draw(st.integers(0, 25))):
        kind = draw(st.sampled_from(("count", "count", "scrape", "gap", "partial", "restart", "leave")))
        name = draw(names)
        if kind in ("restart", "leave"):
            story.append(("scrape", "", 0))
        story.append((kind, name, draw(st.integers(0, 1000))))
        if kind == "restart" and name not in known:
            known.add(name)
            story += [("count", name, draw(st.integers(0, 1000))), ("scrape", "", 0)]
    return [*story, ("scrape", "", 0)]


@settings(max_examples=200)
@given(knowable())
def test_the_sum_is_the_truth_when_it_can_be_known(story: list[tuple[str, str, int]]) -> None:
    now, state, truth, counted = 1000.0, TrackerState(), 0, 0
    processes: dict[str, Process] = {}
    away: set[str] = set()
    for kind, name, number in story:
        now += 5.0
        if kind == "start" or (kind == "restart" and name not in away):
            processes[name] = Process(started=now)
        elif kind == "leave":
            processes.pop(name, None)
            away.add(name)  # its name is not used again
        elif kind == "count" and name in processes:
            processes[name].count += number
            truth += number
        elif kind == "gap":
            state, deltas = update(state, (), now)
            assert not deltas.increases
        elif kind == "partial":
            answers = [p.sample(n) for n, p in processes.items() if n != name]
            state, deltas = update(state, answers, now)
            counted += seen(deltas)
        elif kind == "scrape":
            state, deltas = update(state, [p.sample(n) for n, p in processes.items()], now)
            counted += seen(deltas)
        state = TrackerState.model_validate_json(state.model_dump_json())
    assert counted == truth


turns = st.tuples(
    st.integers(0, 100), st.sampled_from((0.2, 0.99, 1.0, 1.01, 5.0)), st.booleans(), st.booleans()
)


@given(st.lists(turns, max_size=30))
def test_with_a_pid_nothing_is_lost_and_nothing_counts_twice(
    story: list[tuple[int, float, bool, bool]],
) -> None:
    """A process restarts right after a scrape, so that all of its counts can be known: often exactly one
    second after it started before. While it lives its boot time is corrected by exactly one second."""
    now, pid, started, count, truth, counted = 1000.0, 1, 1000.0, 0, 0, 0
    state, _ = update(TrackerState(), (Sample("a", started, ((KEYS[0], 0.0),), pid),), now)
    for number, lasted, restarts, corrected in story:
        if restarts:
            pid, started, count = pid + 1, now, 0
        count, truth, now = count + number, truth + number, now + lasted
        told = started - 1.0 if corrected and not restarts else started
        state, deltas = update(state, (Sample("a", told, ((KEYS[0], float(count)),), pid),), now)
        state = TrackerState.model_validate_json(state.model_dump_json())
        counted += seen(deltas)
        assert counted == truth

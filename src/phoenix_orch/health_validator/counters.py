"""Increases from scraped counters that only rise, and what to do when they do not.

Pure. The sum of all increases never exceeds the number of events that happened, and equals it as far
as that can be known:

- a value below the one before is a reset: the increase is the value;
- a process that started after the scrape before counts in full, any other new one is only a baseline;
- another pid is another process, whatever its start says; the same one, or none told, goes by the start;
- a new series of a known process counts in full: it stood at zero until its first event;
- a process that did not answer, or is gone, contributes nothing; should it come back, its next scrape
  carries the whole increase and is said to be merged;
- a value that is not a finite number of 0 or more is no value; of two values of one series the lower is
  taken; a scrape not newer than the last one changes nothing;
- whole numbers stay whole; fractions (a turnover, say) are kept to a millionth.

Times are seconds since 1970 by the wall clock, because that is what processes tell their start in.
The state is plain data: store it anywhere, go on from it after a restart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

Number = int | float

PLACES = 6
"""Digits of a fraction that are kept: a difference of two is then as exact as the two."""

KEEP_SECONDS = 600.0
"""A process that has not answered for so long is forgotten; should it return, it is a baseline."""

KEEP_PROCESSES = 256
"""More baselines than these are not kept; the oldest go first."""

CLOCK_SLACK = 2.0
"""Seconds by which a start may lie in the future, told by a clock that differs a little."""

START_EARLY = 1.0
"""Seconds by which a start is told too early at most: the kernel gives the boot time in whole seconds. A
process that was never read cannot be counted twice, so these seconds are given to it."""

TICK = 0.01
"""Resolution in seconds of a start as the kernel tells it."""

CLOCK_STEP = 60.0
"""A scrape older than the last one by more seconds than this was not late: the wall clock was set back."""


class _State(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Baseline(_State):
    """What one process counted when it last answered."""

    started: float | None
    seen: float
    values: dict[str, Number]
    holed: bool = False
    """Some series had no usable value then."""
    pid: int | None = None
    """None: it was never told, as by a Phoenix that did not keep it."""


class TrackerState(_State):
    """Everything `update` remembers."""

    at: float | None = None
    """Time of the last scrape that somebody answered; None: there was none."""
    missed: bool = False
    """Nobody answered since."""
    processes: dict[str, Baseline] = {}


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process answered. `series` may hold one key twice."""

    process: str
    started: float | None
    series: Sequence[tuple[str, float]]
    pid: int | None = None
    """None: not known, or not surely that of the process which answered."""


@dataclass(frozen=True, slots=True)
class Increase:
    """What one process counted since `since`."""

    values: dict[str, Number]
    since: float
    """Time from which the increase counts: the last answer, or the start of a new process."""
    merged: bool = False
    """Covers more than the time since the last scrape."""


@dataclass(frozen=True, slots=True)
class Deltas:
    """The increases of one scrape by process. A process that only left a baseline is not in it."""

    increases: dict[str, Increase] = field(default_factory=dict)
    baselines: frozenset[str] = frozenset()
    """Processes seen for the first time that could not be counted yet."""
    holed: frozenset[str] = frozenset()
    """Processes that gave an unusable value for some series."""
    ignored: bool = False
    """The scrape was not newer than the last one."""


def update(state: TrackerState, samples: Sequence[Sample], at: float) -> tuple[TrackerState, Deltas]:
    """Take one scrape at time `at`. No samples: nobody answered."""
    if state.at is not None and at <= state.at:
        late = state.at - at <= CLOCK_STEP
        return (state if late else _set_back(state, samples, at)), Deltas(ignored=True)
    if not samples:
        return state.model_copy(update={"missed": True}), Deltas()
    baselines = dict(state.processes)
    increases: dict[str, Increase] = {}
    new: set[str] = set()
    holed: set[str] = set()
    for sample in _once_per_process(samples):
        values, hole = _usable(sample.series)
        known = baselines.get(sample.process)
        previous = state.at
        if known is not None and not _same_process(known, sample):
            previous = known.seen
            known = None
        if hole:
            holed.add(sample.process)
        if known is not None:
            increase: Increase | None = _more(state, known, values)
        else:
            increase = _all(state, previous, sample, values, at)
        if increase is None:
            new.add(sample.process)
        else:
            increases[sample.process] = increase
        baselines[sample.process] = Baseline(
            started=sample.started,
            seen=at,
            values=_kept(known, values, sample.series),
            holed=hole,
            pid=_pid(known, sample),
        )
    following = TrackerState(at=at, processes=_pruned(baselines, at))
    return following, Deltas(increases, frozenset(new), frozenset(holed))


def _more(state: TrackerState, known: Baseline, values: dict[str, Number]) -> Increase:
    """What a known process counted since its last answer."""
    grown = {key: _grown(known.values.get(key, 0), value) for key, value in values.items()}
    late = state.missed or known.holed or (state.at is not None and known.seen < state.at)
    return Increase(grown, since=known.seen, merged=late)


def _all(
    state: TrackerState, previous: float | None, sample: Sample, values: dict[str, Number], at: float
) -> Increase | None:
    """Everything that a new process counted, if it surely started after the `previous` scrape."""
    started = sample.started
    if previous is None or started is None or not previous - START_EARLY < started <= at + CLOCK_SLACK:
        return None
    late = state.missed or (state.at is not None and previous < state.at)
    return Increase(dict(values), since=min(started, at), merged=late)


def exact(value: Number) -> Number:
    """The number to a millionth, as an integer where it is whole: sums of fractions do not drift."""
    rounded = round(value, PLACES)
    return int(rounded) if rounded == int(rounded) else rounded


def _grown(before: Number, now: Number) -> Number:
    return exact(now - before) if now >= before else now


def _usable(series: Sequence[tuple[str, float]]) -> tuple[dict[str, Number], bool]:
    """The values, and whether any could not be used."""
    values: dict[str, Number] = {}
    hole = False
    for key, value in series:
        if not math.isfinite(value) or value < 0:
            hole = True
            continue
        number = exact(value)
        values[key] = min(number, values.get(key, number))
    return values, hole


def _kept(
    known: Baseline | None, values: dict[str, Number], series: Sequence[tuple[str, float]]
) -> dict[str, Number]:
    """The next baseline: the values, and the old ones of series that had no usable value just now.

    A series that is gone altogether starts at zero when it comes back.
    """
    if known is None or len(values) == len(series):
        return values
    named = {key for key, _ in series}
    return {**{key: value for key, value in known.values.items() if key in named}, **values}


def _once_per_process(samples: Iterable[Sample]) -> Iterable[Sample]:
    return {sample.process: sample for sample in samples}.values()


def _same_process(known: Baseline, sample: Sample) -> bool:
    """Whether the process that answered then may be the one that answers now."""
    told = known.pid is not None and sample.pid is not None
    return (not told or known.pid == sample.pid) and same_start(known.started, sample.started)


def _pid(known: Baseline | None, sample: Sample) -> int | None:
    """That of the sample, or where it tells none what is known of the same process."""
    return sample.pid if sample.pid is not None or known is None else known.pid


def same_start(first: float | None, second: float | None) -> bool:
    """Whether one process may have told both. Starts are told from the boot time, which the kernel gives
    in whole seconds and corrects with the clock: a shift of exactly one second is no restart."""
    if first is None or second is None:
        return True
    shift = abs(first - second)
    return shift < TICK or abs(shift - 1.0) < TICK


def _pruned(baselines: dict[str, Baseline], at: float) -> dict[str, Baseline]:
    fresh = {name: base for name, base in baselines.items() if at - base.seen <= KEEP_SECONDS}
    newest = sorted(fresh, key=lambda name: (-fresh[name].seen, name))[:KEEP_PROCESSES]
    return {name: fresh[name] for name in sorted(newest)}


def _set_back(state: TrackerState, samples: Sequence[Sample], at: float) -> TrackerState:
    """Begin anew on a clock that was set back to `at`. Known counts stay where they are higher, lest a
    scrape that was merely very late makes events count twice."""
    processes = {
        name: base.model_copy(update={"seen": at, "holed": True}) for name, base in state.processes.items()
    }
    for sample in _once_per_process(samples):
        values, hole = _usable(sample.series)
        known = state.processes.get(sample.process)
        same = known if known is not None and _same_process(known, sample) else None
        if same is not None:
            keys = same.values.keys() | values.keys()
            values = {key: max(same.values.get(key, 0), values.get(key, 0)) for key in sorted(keys)}
        processes[sample.process] = Baseline(
            started=sample.started,
            seen=at,
            values=values,
            holed=hole or known is not None,
            pid=_pid(same, sample),
        )
    return TrackerState(at=at, missed=True, processes=processes)


class Stillness(_State):
    """For how long a canary has counted nothing although stable's traffic says it should have."""

    scrapes: int = 0
    expected: float = 0.0

    @property
    def stale(self) -> bool:
        """Three scrapes without a request where at least five were to be expected."""
        return self.scrapes >= 3 and self.expected >= 5


def stand_still(state: Stillness, *, canary: int, stable: int, weight: int) -> Stillness:
    """Add one interval's requests of both arms at `weight` per cent."""
    if canary > 0 or weight <= 0:
        return Stillness()
    if weight >= 100:  # nothing to compare with
        return Stillness(scrapes=state.scrapes + 1, expected=state.expected)
    expected = stable * weight / (100 - weight)
    return Stillness(scrapes=state.scrapes + 1, expected=state.expected + expected)

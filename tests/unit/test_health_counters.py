"""The rules of counting, one by one."""

from __future__ import annotations

import math

import pytest

from phoenix_orch.health_validator.counters import (
    KEEP_PROCESSES,
    KEEP_SECONDS,
    Deltas,
    Sample,
    Stillness,
    TrackerState,
    stand_still,
    update,
)


def sample(
    value: float, *, started: float | None = 1.0, process: str = "web-1", pid: int | None = None
) -> Sample:
    return Sample(process, started, (("requests", value),), pid)


def watched(*scrapes: tuple[float, Sample | None]) -> tuple[TrackerState, Deltas]:
    state, deltas = TrackerState(), Deltas()
    for at, answer in scrapes:
        state, deltas = update(state, () if answer is None else (answer,), at)
    return state, deltas


def requests(deltas: Deltas, process: str = "web-1") -> int | None:
    increase = deltas.increases.get(process)
    return None if increase is None else increase.values["requests"]


def test_the_first_scrape_is_a_baseline() -> None:
    _, deltas = watched((100, sample(40)))
    assert not deltas.increases
    assert deltas.baselines == {"web-1"}


def test_the_increase_is_the_difference() -> None:
    _, deltas = watched((100, sample(40)), (110, sample(55)))
    assert requests(deltas) == 15
    assert deltas.increases["web-1"].since == 100
    assert not deltas.increases["web-1"].merged


def test_a_lower_value_is_a_reset_and_counts_in_full() -> None:
    _, deltas = watched((100, sample(40)), (110, sample(7)))
    assert requests(deltas) == 7


def test_a_process_started_since_the_last_scrape_counts_in_full() -> None:
    _, deltas = watched((100, sample(40)), (110, sample(9, started=104, process="web-2")))
    assert requests(deltas, "web-2") == 9
    assert deltas.increases["web-2"].since == 104


@pytest.mark.parametrize("started", [99.4, 100.0])
def test_a_start_may_be_told_up_to_a_second_too_early(started: float) -> None:
    """The kernel counts from a boot time in whole seconds."""
    _, deltas = watched((100, sample(40)), (110, sample(9, started=started)))
    assert requests(deltas) == 9
    _, deltas = watched((100, sample(40)), (110, sample(9, started=started, process="web-2")))
    assert requests(deltas, "web-2") == 9


@pytest.mark.parametrize("started", [98.0, 99.0, None, 113.0])
def test_any_other_new_process_is_a_baseline(started: float | None) -> None:
    """Started before, at an unknown time, or in the future, which only a wrong clock can say."""
    _, deltas = watched((100, sample(40)), (110, sample(9, started=started, process="web-2")))
    assert requests(deltas, "web-2") is None
    assert deltas.baselines == {"web-2"}


def test_a_restart_is_told_by_the_start_even_when_the_value_is_higher() -> None:
    _, deltas = watched((100, sample(40)), (110, sample(90, started=105)))
    assert requests(deltas) == 90


def test_a_quick_restart_is_told_too() -> None:
    _, deltas = watched((100, sample(40, started=99.5)), (110, sample(41, started=100.8)))
    assert requests(deltas) == 41


@pytest.mark.parametrize("shift", [1.0, -1.0, 0.001])
def test_a_corrected_boot_time_is_no_restart(shift: float) -> None:
    _, deltas = watched((100, sample(40, started=50.0)), (110, sample(41, started=50.0 + shift)))
    assert requests(deltas) == 1


@pytest.mark.parametrize("shift", [0.0, 0.001, 0.99, 1.0, 1.01, 5.0])
def test_another_pid_is_another_process_whatever_the_start_says(shift: float) -> None:
    started = 99.9 + shift
    _, deltas = watched((100, sample(40, started=99.9, pid=7)), (110, sample(41, started=started, pid=8)))
    assert requests(deltas) == 41


@pytest.mark.parametrize("shift", [1.0, -1.0, 0.001])
def test_the_same_pid_with_a_corrected_boot_time_is_no_restart(shift: float) -> None:
    _, deltas = watched((100, sample(40, pid=7)), (110, sample(41, started=1.0 + shift, pid=7)))
    assert requests(deltas) == 1


def test_a_pid_that_came_round_again_is_told_by_the_start() -> None:
    _, deltas = watched((100, sample(40, pid=7)), (110, sample(41, started=105, pid=7)))
    assert requests(deltas) == 41


def test_a_pid_that_is_not_told_for_once_is_remembered() -> None:
    told, untold = sample(40, started=99.9, pid=7), sample(41, started=99.9)
    _, deltas = watched((100, told), (101, untold), (110, sample(45, started=100.9, pid=8)))
    assert requests(deltas) == 45


def test_a_state_stored_without_pids_goes_on() -> None:
    state, _ = watched((100, sample(40, started=50.0)))
    stored = state.model_dump(mode="json")
    del stored["processes"]["web-1"]["pid"]
    _, deltas = update(TrackerState.model_validate(stored), (sample(42, started=51.0, pid=7),), 110)
    assert requests(deltas) == 2


def test_a_clock_set_back_keeps_nothing_of_another_pid() -> None:
    state, _ = watched((1000, sample(40, started=99.9, pid=7)))
    state, _ = update(state, (sample(9, started=100.9, pid=8),), 101)
    _, deltas = update(state, (sample(12, started=100.9, pid=8),), 111)
    assert requests(deltas) == 3


def test_a_restart_while_nobody_answered_counts_in_full() -> None:
    _, deltas = watched((100, sample(40)), (110, sample(1, process="other")), (120, sample(3, started=105)))
    assert requests(deltas) == 3
    assert deltas.increases["web-1"].merged


def test_after_a_gap_the_whole_increase_comes_at_once_and_is_said_to_be_merged() -> None:
    _, deltas = watched((100, sample(40)), (110, None), (120, sample(70)))
    assert requests(deltas) == 30
    assert deltas.increases["web-1"].merged
    assert deltas.increases["web-1"].since == 100


def test_one_silent_process_is_merged_alone() -> None:
    state, _ = update(TrackerState(), (sample(10), sample(10, process="web-2")), 100)
    state, _ = update(state, (sample(20),), 110)
    _, deltas = update(state, (sample(30), sample(40, process="web-2")), 120)
    assert (requests(deltas), requests(deltas, "web-2")) == (10, 30)
    assert not deltas.increases["web-1"].merged
    assert deltas.increases["web-2"].merged


def test_a_new_series_of_a_known_process_counts_in_full() -> None:
    state, _ = update(TrackerState(), (Sample("p", 1.0, (("ok", 5.0),)),), 100)
    _, deltas = update(state, (Sample("p", 1.0, (("ok", 6.0), ("error", 2.0))),), 110)
    assert deltas.increases["p"].values == {"ok": 1, "error": 2}


def test_a_series_that_left_and_came_back_starts_at_zero() -> None:
    state, _ = update(TrackerState(), (Sample("p", 1.0, (("a", 50.0), ("b", 1.0))),), 100)
    state, _ = update(state, (Sample("p", 1.0, (("b", 1.0),)),), 110)
    _, deltas = update(state, (Sample("p", 1.0, (("a", 60.0), ("b", 1.0))),), 120)
    assert deltas.increases["p"].values == {"a": 60, "b": 0}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
def test_an_unusable_value_is_no_value(value: float) -> None:
    state, _ = watched((100, sample(40)))
    state, deltas = update(state, (sample(value),), 110)
    assert deltas.holed == {"web-1"}
    assert deltas.increases["web-1"].values == {}
    _, deltas = update(state, (sample(46),), 120)
    assert requests(deltas) == 6
    assert deltas.increases["web-1"].merged


def test_of_two_values_of_one_series_the_lower_is_taken() -> None:
    state, _ = watched((100, sample(40)))
    _, deltas = update(state, (Sample("web-1", 1.0, (("requests", 50.0), ("requests", 45.0))),), 110)
    assert requests(deltas) == 5


@pytest.mark.parametrize("at", [110.0, 109.0, 51.0])
def test_a_scrape_not_newer_than_the_last_changes_nothing(at: float) -> None:
    state, _ = watched((100, sample(40)), (110, sample(50)))
    following, deltas = update(state, (sample(45),), at)
    assert following == state
    assert deltas.ignored
    assert not deltas.increases


def test_a_clock_set_back_goes_on_without_counting_twice() -> None:
    state, _ = watched((10_000, sample(40)), (10_010, sample(50)))
    state, deltas = update(state, (sample(60),), 5_000)
    assert deltas.ignored
    _, deltas = update(state, (sample(65),), 5_010)
    assert requests(deltas) == 5
    state, _ = update(state, (sample(20),), 4_000)  # a very old scrape
    _, deltas = update(state, (sample(66),), 4_010)
    assert requests(deltas) == 6


def test_fractions_are_counted_to_a_millionth_and_whole_numbers_stay_whole() -> None:
    state, found = TrackerState(), []
    for at, total in enumerate((12.5, 12.6, 12.7, 13, 0.25)):
        state, deltas = update(state, (sample(total),), 100.0 + at)
        state = TrackerState.model_validate_json(state.model_dump_json())
        found.append(requests(deltas))
    assert found == [None, 0.1, 0.1, 0.3, 0.25]  # the last one is a reset
    _, deltas = update(state, (sample(7.25),), 200.0)
    assert (requests(deltas), type(requests(deltas))) == (7, int)


def test_a_process_long_gone_is_forgotten() -> None:
    state, _ = update(TrackerState(), (sample(10), sample(10, process="web-2")), 100)
    state, _ = update(state, (sample(20),), 100 + KEEP_SECONDS + 1)
    assert set(state.processes) == {"web-1"}


def test_the_state_stays_bounded() -> None:
    state = TrackerState()
    for number in range(2 * KEEP_PROCESSES):
        state, _ = update(state, (sample(1, process=f"web-{number}"),), 100 + number / 1000)
    assert len(state.processes) == KEEP_PROCESSES
    assert f"web-{2 * KEEP_PROCESSES - 1}" in state.processes


def test_a_canary_that_stands_still_is_stale_after_three_scrapes_and_five_expected_requests() -> None:
    still = Stillness()
    for expected in (False, False, True):
        still = stand_still(still, canary=0, stable=40, weight=5)
        assert still.stale is expected
    assert stand_still(still, canary=1, stable=40, weight=5) == Stillness()


def test_little_traffic_is_not_stale() -> None:
    still = Stillness()
    for _ in range(20):
        still = stand_still(still, canary=0, stable=4, weight=5)
    assert not still.stale  # 4.2 requests were to be expected


def test_without_a_comparison_or_without_weight_nothing_is_expected() -> None:
    still = Stillness()
    for _ in range(10):
        still = stand_still(still, canary=0, stable=1000, weight=100)
    assert not still.stale
    assert stand_still(still, canary=0, stable=1000, weight=0) == Stillness()

"""Raw samples of Prometheus as scrapes of processes."""

from __future__ import annotations

from phoenix_orch.health_validator.counters import Sample, TrackerState, update
from phoenix_orch.health_validator.sources.prometheus_samples import Counted, scrapes

OK, ERROR = "r|ok||", "r|error||"


def points(*values: float, end: float, pace: float = 15.0) -> tuple[tuple[float, float], ...]:
    first = end - pace * (len(values) - 1)
    return tuple((first + pace * place, value) for place, value in enumerate(values))


def taken(now: float, *counted: Counted, state: TrackerState, read: dict[str, float], switched: bool = False):  # type: ignore[no-untyped-def]
    return scrapes(counted, state, read, now=now, switched=switched)


def test_the_newest_sample_of_each_series_is_the_scrape() -> None:
    found = taken(
        101.0,
        Counted("p", OK, 5.0, points(1, 2, 3, end=100.0)),
        Counted("p", ERROR, 5.0, points(1, end=100.0)),
        state=TrackerState(),
        read={},
    )
    assert found.samples == (Sample("p", 5.0, ((OK, 3.0), (ERROR, 1.0))),)
    assert found.read == {"p": 100.0}


def test_asked_again_before_the_next_scrape_a_process_is_where_it_was() -> None:
    one = Counted("p", OK, 5.0, points(1, 2, 3, end=100.0))
    first = taken(101.0, one, state=TrackerState(), read={})
    state, _ = update(TrackerState(), first.samples, 101.0)
    again = taken(111.0, one, state=state, read=first.read)
    _, deltas = update(state, again.samples, 111.0)
    assert deltas.increases["p"].values == {OK: 0}
    assert again.read == {"p": 100.0}


def test_numbers_that_are_not_renewed_any_more_are_none() -> None:
    """Three scrapes are overdue: the program, or its scrape, is gone while Prometheus still answers."""
    one = Counted("p", OK, 5.0, points(1, 2, 3, end=100.0))
    assert taken(144.0, one, state=TrackerState(), read={}).samples
    assert taken(146.0, one, state=TrackerState(), read={}).samples == ()


def test_a_series_that_is_not_in_the_newest_scrape_has_gone() -> None:
    found = taken(
        101.0,
        Counted("p", OK, 5.0, points(1, 2, 3, end=100.0)),
        Counted("p", ERROR, 5.0, points(1, 2, end=85.0)),
        state=TrackerState(),
        read={},
    )
    assert found.samples == (Sample("p", 5.0, ((OK, 3.0),)),)


def test_a_lower_count_of_the_same_server_is_a_reset_and_that_of_another_is_none() -> None:
    known = taken(101.0, Counted("p", OK, None, points(50, end=100.0)), state=TrackerState(), read={})
    state, _ = update(TrackerState(), known.samples, 101.0)
    lower = Counted("p", OK, None, points(40, end=115.0))
    for switched, increase in ((False, 40), (True, 0)):
        found = taken(116.0, lower, state=state, read=known.read, switched=switched)
        _, deltas = update(state, found.samples, 116.0)
        assert deltas.increases["p"].values == {OK: increase}


def test_a_process_started_anew_is_told_by_its_start_whoever_answers() -> None:
    known = taken(101.0, Counted("p", OK, 5.0, points(50, end=100.0)), state=TrackerState(), read={})
    state, _ = update(TrackerState(), known.samples, 101.0)
    anew = Counted("p", OK, 110.0, points(40, end=115.0))
    found = taken(116.0, anew, state=state, read=known.read, switched=True)
    _, deltas = update(state, found.samples, 116.0)
    assert deltas.increases["p"].values == {OK: 40}

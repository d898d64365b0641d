"""The back-off: at once, then 1, 2, 4 ... 60 seconds, and from the beginning after a minute of health."""

from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.workload.backoff import LONGEST, STEADY, Backoff


def test_the_series() -> None:
    backoff, delays = Backoff(), []
    for _ in range(10):
        backoff = backoff.after_end(ready_for=5.0)
        delays.append(backoff.delay)
    assert delays == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


@given(st.lists(st.floats(0, STEADY, exclude_max=True), max_size=200))
def test_it_never_gets_shorter_without_a_minute_of_health(ready: list[float]) -> None:
    backoff, last = Backoff(), 0.0
    for ready_for in ready:
        backoff = backoff.after_end(ready_for)
        assert last <= backoff.delay <= LONGEST
        last = backoff.delay


@given(st.integers(0, 10_000), st.floats(STEADY, 1e9))
def test_a_minute_of_health_forgets_everything(failures: int, ready_for: float) -> None:
    assert Backoff(failures).after_end(ready_for) == Backoff().after_end(0.0)


@given(st.integers(0, 10**9))
def test_any_number_of_ends_has_a_delay(failures: int) -> None:
    assert 0 <= Backoff(failures).delay <= LONGEST

"""What becomes of a task: back-off, attempts, and the table of its states."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.tasks.outcome import Buried, Cancelled, Failed, Outcome, PutBack, Succeeded, settle
from phoenix_orch.tasks.record import ACTIVE, ENDED, MOVES, WAITING, Move, State, TaskRecord
from phoenix_orch.tasks.spec import Retries, back_off

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OUTCOMES = st.one_of(
    st.builds(Succeeded, st.just({"n": 1})),
    st.builds(Failed, st.text(max_size=5), st.booleans()),
    st.builds(Cancelled, st.text(max_size=5)),
    st.just(PutBack()),
    st.builds(Buried, st.text(max_size=5)),
)


def record(**changes: object) -> TaskRecord:
    known = {"id": "1", "kind": "k", "key": "1", "created": NOW, "due": NOW, "state": State.RUNNING}
    return TaskRecord.model_validate(known | {"attempt": 1, "attempts": 3} | changes)


@given(st.integers(1, 100), st.floats(0, 1), st.text(max_size=5))
def test_back_off_grows_is_bounded_and_is_the_same_again(attempt: int, jitter: float, seed: str) -> None:
    retries = Retries(attempts=100, wait=timedelta(seconds=1), longest=timedelta(minutes=1), jitter=jitter)
    wait = back_off(retries, attempt, seed)
    whole = min(timedelta(seconds=2 ** min(attempt - 1, 10)), timedelta(minutes=1))
    assert whole * (1 - jitter) - timedelta(microseconds=1) <= wait <= whole
    assert back_off(retries, attempt, seed) == wait


@given(OUTCOMES, st.integers(1, 5), st.booleans())
def test_what_follows_is_a_move_of_the_table(outcome: Outcome, attempt: int, cancelling: bool) -> None:
    settled = settle(record(attempt=attempt, cancelling="ann" if cancelling else ""), Retries(), outcome, NOW)
    leads = {to for sources, to in MOVES.values() if State.RUNNING in sources} - {State.RUNNING}
    assert settled.state in leads
    assert (settled.due is None) == (settled.state in ENDED)


@given(OUTCOMES)
def test_what_somebody_cancelled_has_no_further_attempt(outcome: Outcome) -> None:
    assert settle(record(cancelling="ann"), Retries(), outcome, NOW).state in ENDED


def test_attempts_are_used_up_one_by_one() -> None:
    failed = Failed("no")
    assert settle(record(attempt=2), Retries(), failed, NOW).state is State.RETRYING
    assert settle(record(attempt=3), Retries(), failed, NOW).state is State.FAILED
    assert settle(record(attempt=1), Retries(), Failed("no", again=False), NOW).state is State.FAILED


def test_being_put_back_costs_no_attempt() -> None:
    settled = settle(record(attempt=2), Retries(), PutBack(), NOW)
    assert (settled.state, settled.due, settled.fields) == (State.QUEUED, NOW, {"attempt": 1})


def test_every_state_can_be_reached_and_left_unless_it_is_the_best_end() -> None:
    reached = {to for _, to in MOVES.values()}
    assert reached | {State.SCHEDULED} == set(State)
    left = set().union(*(sources for sources, _ in MOVES.values()))
    assert left == set(State) - {State.SUCCEEDED}


def test_states_are_either_active_or_over() -> None:
    assert set(State) == ACTIVE | ENDED
    assert not ACTIVE & ENDED
    assert ACTIVE - {State.RUNNING} == WAITING
    assert all(to in ENDED for move, (_, to) in MOVES.items() if move in {Move.FAIL, Move.CANCEL, Move.BURY})

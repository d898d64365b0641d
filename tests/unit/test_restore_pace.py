"""How far a restore is, in words."""

from __future__ import annotations

from phoenix_orch.recovery.restore.pace import Pace


def test_bytes_and_the_time_that_is_left_are_said_now_and_then() -> None:
    now, said = [0.0], list[str]()
    pace = Pace(said.append, "rehearsal", 200_000_000, lambda: now[0])
    for seconds, count in ((1, 10_000_000), (5, 50_000_000), (6, 60_000_000), (20, 200_000_000)):
        now[0] = seconds
        pace(count)
    assert said == ["rehearsal: 50.0 of 200.0 MB, 15 s left", "rehearsal: 200.0 of 200.0 MB, 0 s left"]


def test_what_says_nothing_of_the_time_is_not_said() -> None:
    now, said = [0.0], list[str]()
    pace = Pace(said.append, "rehearsal", 0, lambda: now[0])
    now[0] = 9
    pace(0)
    pace(5)
    assert said == []

"""The last lines of several logs, by the times in them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from phoenix_orch.workload.log_times import last, time_of


@pytest.mark.parametrize(
    ("line", "moment"),
    [
        ("2026-03-01T12:00:05Z started", datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)),
        ("2026-03-01 12:00:05,250 INFO x", datetime(2026, 3, 1, 12, 0, 5, 250_000, tzinfo=UTC)),
        ('{"time": "2026-03-01T14:00:05+02:00"}', datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)),
        ('127.0.0.1 - - [01/Mar/2026 12:00:05] "GET /"', datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)),
        ("::1 - - [01/Mar/2026:13:00:05 +0100] GET", datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)),
        ("12:00:05 started", None),
        ("2026-13-99T12:00:05Z", None),
        ("[01/Foo/2026 12:00:05]", None),
        ("", None),
    ],
)
def test_the_time_of_a_line(line: str, moment: datetime | None) -> None:
    assert time_of(line) == moment


def test_the_last_lines_of_all_are_in_the_order_of_their_times() -> None:
    written = {
        "a": ["2026-03-01T12:00:01Z one", "2026-03-01T12:00:04Z four", "  of a traceback"],
        "b": ["2026-03-01T12:00:02Z two", "2026-03-01T12:00:03Z three"],
        "c": [],
    }
    assert last(written, 4) == [
        ("b", "2026-03-01T12:00:02Z two"),
        ("b", "2026-03-01T12:00:03Z three"),
        ("a", "2026-03-01T12:00:04Z four"),
        ("a", "  of a traceback"),
    ]
    assert last(written, 0) == []


def test_without_times_each_has_its_own_last_lines() -> None:
    assert last({"a": ["1", "2", "3"], "b": ["4"]}, 2) == [("a", "2"), ("a", "3"), ("b", "4")]
    assert last({"a": ["1"]}, 0) == []

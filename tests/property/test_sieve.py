"""A page of metrics in pieces of any size is the page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.health_validator.sources.sieve import LONGEST_LINE, Interest, Sieve

WANTED = Interest(("requests_total", "orders"), also=("process_start_time_seconds",), mark='route="web"')
LINES = st.sampled_from(
    [
        "# TYPE requests_total counter",
        'requests_total{route="web",code="200"} 5',
        'requests_total{route="shop",code="200"} 6',
        'requests_total_created{route="web"} 7',
        'orders{route="web"} 8',
        'orders_total{route="web"} 9',
        "process_start_time_seconds 1.5e9",
        "process_start_time_seconds_more 1",
        "",
        "é" * 9000,
        "<html>",
    ]
)
KEPT = {
    'requests_total{route="web",code="200"} 5',
    'orders{route="web"} 8',
    "process_start_time_seconds 1.5e9",
}


@given(st.lists(LINES, max_size=30), st.data())
def test_pieces_make_no_difference_and_what_is_wanted_is_kept(lines: list[str], data: st.DataObject) -> None:
    page = "\n".join(lines).encode()
    sieve = Sieve(WANTED, most=100)
    rest = page
    while rest:
        size = data.draw(st.integers(1, max(1, len(rest))))
        sieve.feed(rest[:size])
        rest = rest[size:]
    told = [line for line in lines if line]
    first = [line[: LONGEST_LINE // 2] for line in told[:1]]  # its letters have two bytes
    assert sieve.text().splitlines() == [*first, *[line for line in told[1:] if line in KEPT]]


@given(st.integers(1, 40), st.integers(1, 40))
def test_no_more_lines_are_kept_than_are_allowed(count: int, most: int) -> None:
    sieve = Sieve(Interest(("a",)), most=most)
    page = b"# first\n" + b"".join(b'a{b="%d"} 1\n' % number for number in range(count))
    if count <= most:
        sieve.feed(page)
        assert sieve.text().count("\n") == count + 1
    else:
        with pytest.raises(ValueError, match=r"more than .* lines of interest, most of a: "):
            sieve.feed(page)


def test_a_long_line_of_interest_is_refused_however_it_comes() -> None:
    long = b'a{b="' + b"x" * LONGEST_LINE + b'"} 1'
    for before, last in ((b"#\n", long + b"\n"), (b"#\n", long), (b"#\n" + long[:100], long[100:])):
        sieve = Sieve(Interest(("a",)), most=9)
        sieve.feed(before)
        with pytest.raises(ValueError, match="bytes long"):
            sieve.feed(last)
    other = Sieve(Interest(("b",)), most=9)
    other.feed(b"#\n" + long)
    other.feed(b"more of it\nb 5")
    assert other.text() == "#\nb 5\n"

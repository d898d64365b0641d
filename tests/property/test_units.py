"""Units read back what they wrote, and never fall over text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from phoenix_orch.kernel.ids import revision_hash, sortable_id
from phoenix_orch.kernel.units import (
    format_duration,
    format_ratio,
    format_size,
    parse_duration,
    parse_ratio,
    parse_size,
)

ANYTHING = st.one_of(
    st.text(), st.none(), st.booleans(), st.floats(), st.from_regex(r"[0-9.]{1,8}[a-zA-Z%]{0,3}")
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.integers(0, 3650 * 86_400_000))
def test_a_duration_survives_its_text(milliseconds: int) -> None:
    value = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(value)) == value


@given(st.decimals(0, 100, places=6))
def test_a_share_survives_its_text(percent: object) -> None:
    value = parse_ratio(f"{percent:f}%")
    assert parse_ratio(format_ratio(value)) == value


@given(st.floats(0, 1))
def test_any_share_survives_its_text(value: float) -> None:
    assert parse_ratio(format_ratio(value)) == value


@given(st.integers(0, 2**60))
def test_a_size_survives_its_text(value: int) -> None:
    assert parse_size(format_size(value)) == value


@given(ANYTHING)
def test_whatever_is_written_is_read_or_refused(found: object) -> None:
    for parse, low in ((parse_duration, timedelta(0)), (parse_ratio, 0.0), (parse_size, 0)):
        try:
            value = parse(found)  # type: ignore[operator]
        except ValueError as error:
            assert repr(found) in str(error)  # noqa: PT017 - a refusal is as good as a value here
        else:
            assert value >= low


@given(st.dictionaries(st.text(), JSON))
def test_a_revision_is_ten_hexadecimal_digits_whatever_the_order(content: dict[str, object]) -> None:
    found = revision_hash(content)
    assert len(found) == 10
    assert int(found, 16) >= 0
    assert revision_hash(dict(reversed(list(content.items())))) == found


@given(st.integers(0, 2**41), st.integers(1, 2**41))
@example(1014, 1).via("1.015 s in milliseconds is below 1015 in binary")
def test_ids_sort_as_their_times_do(milliseconds: int, more: int) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    first, second = (epoch + timedelta(milliseconds=ms) for ms in (milliseconds, milliseconds + more))
    assert sortable_id(first) < sortable_id(second)

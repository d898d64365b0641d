"""The header `traceparent`: what is one, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.observability.traceparent import TraceParent, parse

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_it_says_the_trace_the_caller_and_whether_it_is_kept() -> None:
    assert parse(f"00-{TRACE}-{SPAN}-01") == TraceParent(TRACE, SPAN, sampled=True)
    assert parse(f" 00-{TRACE}-{SPAN}-00 ") == TraceParent(TRACE, SPAN, sampled=False)
    assert parse(f"cc-{TRACE}-{SPAN}-03-what-comes-later") == TraceParent(TRACE, SPAN, sampled=True)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-0x",
    ],
)
def test_what_is_none_is_ignored(header: str) -> None:
    assert parse(header) is None


@given(st.text())
def test_no_text_is_too_much(text: str) -> None:
    found = parse(text)
    assert found is None or (len(found.trace_id), len(found.span_id)) == (32, 16)

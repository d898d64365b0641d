"""Whatever comes from elsewhere, what is shown of it is one line without a control in it."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.kernel.text import escaped, is_text, plain, plain_lines

ANYTHING = st.text(st.characters(exclude_categories=[]))
"""Halves of surrogate pairs, too."""
HOSTILE = st.lists(
    st.sampled_from(
        [
            "\x1b[31m",
            "\x1b]0;title\x07",
            "\x1b]52;c;aGk=\x1b\\",
            "\x9b2J",
            "\x1bPq#0\x1b\\",
            "\x1b(B",
            "\x1bc",
            "\x1b",
            "[",
            "]",
            "m",
            "\x9d",
            "\x9c",
            "\u202e",
            "\u2066",
            "\u200f",
            "\u200b",
            "\u2028",
            "\ufeff",
            "\U000e0041",
            "\ud800",
            "\n",
            "\r",
            "\t",
            "\0",
            "\x7f",
            "\u00a0",
            "é",
            "😀",
            "word",
        ]
    ),
    max_size=20,
).map("".join)


def controls(text: str) -> list[str]:
    return [c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]


@given(ANYTHING | HOSTILE)
def test_no_control_is_left_and_nothing_changes_the_second_time(text):
    shown = plain(text)
    assert controls(shown) == []
    assert plain(shown) == shown
    assert len(shown) <= len(text)
    assert is_text(shown)


@given(ANYTHING | HOSTILE)
def test_lines_stay_lines(text):
    shown = plain_lines(text)
    assert controls(shown.replace("\n", "")) == []
    assert plain_lines(shown) == shown


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "M"])))
def test_letters_digits_and_signs_of_every_language_stay(text):
    assert plain(text) == text


@given(ANYTHING | HOSTILE)
def test_json_keeps_its_value_and_holds_no_control(text):
    shown = escaped(json.dumps({"a": text}, indent=1, ensure_ascii=False))
    assert json.loads(shown) == {"a": text}
    assert controls(shown.replace("\n", "")) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("all well", "all well"),
        ("a\x1b[31mred\x1b[0m b", "ared b"),
        ("\x1b]0;owned\x07rest", "rest"),
        ("\x1b]52;c;c2VjcmV0\x1b\\rest", "rest"),
        ("\x9b31mred", "red"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("line one\nerror: line two\r\n", "line one error: line two  "),
        ("tab\there", "tab here"),
        ("user\u202etxt.exe", "user\ufffdtxt.exe"),
        ("\u2066a\u2069", "\ufffda\ufffd"),
        ("zero\0byte", "zero\ufffdbyte"),
        ("half \ud800", "half \ufffd"),
        ("non\u00a0breaking", "non breaking"),
        ("back\b\bspace", "back\ufffd\ufffdspace"),
        ("an escape \x1b", "an escape \ufffd"),
        ("a title without an end \x1b]0;the rest", "a title without an end "),
    ],
)
def test_what_becomes_of_it(text, shown):
    assert plain(text) == shown


def test_what_is_kept():
    assert plain("a\tb\x1b[1m\n", keep="\t") == "a\tb "
    assert plain_lines("a\x1b[1m\nb\x07") == "a\nb\ufffd"


def test_it_takes_time_in_proportion_to_the_text():
    """A sequence without an end is looked for once, not from each of its characters."""
    for text in ("\x1b]" * 50_000, "\x1b[" * 50_000, "\x9d" * 100_000, "\x1b[0;" * 50_000):
        assert not re.search("[\x1b\x9d]", plain(text))

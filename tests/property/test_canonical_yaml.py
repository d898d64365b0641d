"""Whatever JSON can say is read back from YAML as it was."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from phoenix_orch.recovery.canonical_yaml import written

NUMBERS_AND_WORDS = "1234 0x1f 1e3 0o7 1:30 2026-11-28 yes No ~ null NaN .inf = <<"
SIGNS = "- # &a *a !t %d @a ` a: :a [a {a | > --- ..."
ODD = st.sampled_from(
    [
        *NUMBERS_AND_WORDS.split(),
        *SIGNS.split(),
        *("", "- a", "a: b", "a #b", "? a", "a\tb", "\\n", '"', "'", "\x7f", "\ud7ff", "a\x85b\nc", "\u2028"),
        *("x \ny ", "😀\nz\n", "a\n---\nb\n", "...\n...", "x\ny", "x\n\n\ny\n\n", "\nx\n", " x\ny"),
        *("x\n \ny", "x\r\ny", "\tx\ny", "\ufeffx\ny"),
    ]
)
TEXT = ODD | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
@example({"a": [[{"b": ["x\ny\n", []]}], {}]})
def test_what_is_written_is_read_back(value):
    assert YAML(typ="safe", pure=True).load(written(value)) == value


@given(st.dictionaries(TEXT, VALUES, min_size=2, max_size=4))
def test_order_does_not_matter(value):
    assert written(dict(reversed(value.items()))) == written(value)


@pytest.mark.parametrize("value", [{1: "a"}, {"a": float("nan")}, {"a": b"x"}, {"a": {"b": {1, 2}}}])
def test_what_json_cannot_say_is_refused(value):
    with pytest.raises(ValueError, match="is"):
        written(value)


def test_lines_of_a_file_are_lines_of_the_diff():
    assert written({"data": {"b.conf": "x=1\ny=2\n", "a": "1"}, "kind": "ConfigMap"}) == (
        'data:\n  a: "1"\n  b.conf: |\n    x=1\n    y=2\nkind: ConfigMap\n'
    )

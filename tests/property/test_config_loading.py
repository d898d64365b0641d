"""Whatever stands in a file, reading it gives a model or an error with a place in that file."""

from __future__ import annotations

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix_orch.kernel.config import ConfigError, Source, validate
from phoenix_orch.kernel.yaml_source import YamlFault, parse
from phoenix_orch.orchestrator.config import PhoenixFile

_WORDS = st.sampled_from(
    [
        *(
            "services",
            "web",
            "command",
            "{port}",
            "routes",
            "service",
            "rollouts",
            "phases",
            "weight",
            "10m",
            "0.1%",
        ),
        *(
            "limits",
            "env",
            "replicas",
            "-",
            ": ",
            "[",
            "]",
            "{",
            "}",
            "&a",
            "*a",
            "'",
            '"',
            "|",
            ">",
            "#",
            "!!str",
        ),
        *("\n", "\n  ", "\n    ", "---", "?", ",", "\t", "1", "true", "~", "é", "\x07", "<<", "\\ud800"),
    ]
)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]))
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abcXY-_", min_size=1), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(_VALUES, st.booleans())
def test_json_is_read_as_json_reads_it(value, escaped):
    node = parse(json.dumps(value, ensure_ascii=escaped))
    assert (None if node is None else node.plain) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_keep_their_value(number):
    node = parse(f"[{number!r}]")
    assert node is not None
    assert math.isclose(float(node.plain[0]), number)


@settings(max_examples=300)
@given(st.lists(_WORDS, max_size=40).map("".join) | st.text(max_size=60))
def test_any_text_gives_a_model_or_errors_with_a_place(text):
    lines = tuple(text.splitlines())
    try:
        root = parse(text)
    except YamlFault:
        return
    if root is None:
        return
    _check(Source("f", lines, root), len(lines))


_KEYS = st.sampled_from(
    [
        "services",
        "routes",
        "rollouts",
        "router",
        "web",
        "command",
        "service",
        "phases",
        "policy",
        "health",
        "x y",
    ]
)
_CONFIGS = st.recursive(
    _SCALARS | st.sampled_from(["a {port}", "10m", "0.1%", "web"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=300)
@given(st.dictionaries(_KEYS, _CONFIGS, max_size=5))
def test_any_structure_gives_a_model_or_errors_with_a_place(value):
    text = json.dumps(value, indent=1)
    root = parse(text)
    assert root is not None
    _check(Source("f", tuple(text.splitlines()), root), text.count("\n") + 1)


def _check(source, count):
    error = None
    try:
        validate(source, PhoenixFile)
    except ConfigError as caught:
        error = caught
    if error is None:
        return
    assert error.problems
    for problem in error.problems:
        assert 1 <= problem.line <= count
        assert problem.column >= 1
        assert problem.message
    assert len(str(error).splitlines()) <= 30
    assert "\x07" not in str(error)

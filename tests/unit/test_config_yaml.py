"""YAML as Phoenix reads it: the 1.2 core schema, bounded, with places."""

from __future__ import annotations

import math
import time

import pytest

from phoenix_orch.kernel.yaml_source import MAX_CHARACTERS, MAX_DEPTH, Mark, YamlFault, parse


def plain(text: str) -> object:
    node = parse(text)
    return None if node is None else node.plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("no", "no"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("012", 12),
        ("0o14", 12),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("1e3", 1000.0),
        (".5", 0.5),
        (".inf", math.inf),
        ("9" * 40, "9" * 40),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("! 12", "12"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text, value):
    assert plain(f"key: {text}\n") == {"key": value}


def test_a_document_without_content_is_nothing():
    for text in ("", "# only a comment\n", "---\n...\n", "~\n"):
        assert plain(text) is None


def test_aliases_stand_for_what_they_name():
    assert plain("a: &x {b: 1}\nc: *x\n") == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "mark", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", Mark(2, 0, 1), "second time (first on line 1)"),
        ("a: &x [*x]\n", Mark(0, 7, 2), "holds itself"),
        ("a: *x\n", Mark(0, 3, 2), "not defined"),
        ("a: !!python/object:os.system x\n", Mark(0, 3, 27), "has no meaning here"),
        ("a: !env HOME\n", Mark(0, 3, 9), "has no meaning here"),
        ("--- 1\n--- 2\n", Mark(1, 0, 3), "second document"),
        ("<<: {a: 1}\n", Mark(0, 0, 2), "merge keys"),
        ("? [a]\n: b\n", Mark(0, 2, 1), "not a plain word"),
        ("a:\n\t- b\n", Mark(1, 0, 1), "a tab"),
        ("a: [1\n", Mark(1, 0, 1), "while parsing a flow sequence that began on line 1"),
        ("a: \x01\n", Mark(0, 3, 1), "U+0001"),
        ('a: "\\ud800"\n', Mark(0, 3, 8), "no character"),
        ("a: b: c\n", Mark(0, 4, 1), "mapping values are not allowed here"),
        ("a:\n  b: 1\n c: 2\n", Mark(2, 1, 1), "indentation"),
    ],
)
def test_what_is_no_yaml_for_us_is_refused_at_its_place(text, mark, words):
    with pytest.raises(YamlFault) as caught:
        parse(text)
    assert words in caught.value.message
    assert (caught.value.mark.line, caught.value.mark.column) == (mark.line, mark.column)


def test_size_depth_and_expansion_are_bounded():
    with pytest.raises(YamlFault, match="characters"):
        parse("a" * (MAX_CHARACTERS + 1))
    assert plain("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    with pytest.raises(YamlFault, match="nested deeper"):
        parse("[" * 5000)
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    begun = time.monotonic()
    with pytest.raises(YamlFault, match="with what aliases stand for"):
        parse(laughs)
    assert time.monotonic() - begun < 1

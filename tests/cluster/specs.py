"""Random specs of rollouts from the schema: mostly right, here and there wrong as people get it wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from phoenix_orch.kernel.units import (
    DURATION_PATTERN,
    RATIO_PATTERN,
    SIZE_PATTERN,
    format_duration,
    parse_duration,
)
from phoenix_orch.rollout.kubernetes_spec import JOB_PATTERN, OBJECT_PATTERN
from phoenix_orch.rollout.spec import METRIC_PATTERN, NAME_PATTERN

Draw = Callable[[st.SearchStrategy[Any]], Any]
Schema = Mapping[str, Any]

WRONG = 1
"""Of a hundred values."""
PRESENT = 30
"""Of a hundred keys that may be left out."""

RIGHT: Mapping[str, list[Any]] = {
    DURATION_PATTERN: ["0s", "5s", "10s", "1.5m", "90m", "1d1h1m1s1ms", "3650d", "87600h", "0.5d", "1ms"],
    RATIO_PATTERN: ["0%", "0.1%", "5 %", "100%", "100.00%", "00.5%", "0.0000000001%"],
    SIZE_PATTERN: ["1", "512Mi", "1.5k", "0", 0, 4096, "1Ti"],
    NAME_PATTERN: ["a", "b", "c-1", "d", "e", "f", "shop", "shop-canary", "x" * 63, "w" * 56],
    JOB_PATTERN: ["a", "smoke-test", "x" * 52],
    OBJECT_PATTERN: ["a", "b", "c", "d", "e", "f.g", "shop", "api.example.com", "x" * 246],
    METRIC_PATTERN: ["orders_total", "a:b", "_x"],
}
FALSE: Mapping[str, list[Any]] = {
    DURATION_PATTERN: [
        *("", "10", "soon", "3650d1ms", "4000d", "0.0001s", "1m1h", " 5s", "1.0ms", "99999h", "-5s"),
        *("5s\n", "1m1m", "5", "s"),
    ],
    RATIO_PATTERN: ["", "5", "101%", "100.1%", "-1%", "1e1%", " 5%", "5%\n", "1000%", "5%%", ".5%"],
    SIZE_PATTERN: ["", "-1", -1, "1KB", "1 Mi", "1mi", ".5Gi"],
    NAME_PATTERN: ["", "A", "-a", "a-", "a.b", "x" * 64, "a_b", "a\n", "é"],
    JOB_PATTERN: ["", "A", "x" * 53],
    OBJECT_PATTERN: ["", "A", ".a", "a..b", "a-.b", "x" * 247],
    METRIC_PATTERN: ["", "1a", "a-b", "x" * 201],
}
TEXTS: Mapping[str, list[str]] = {
    "url": ["{canary}/x", "{route}", "http://x/{route}", "https://x", "http://x/{{y}}", "http://x/${y}"],
    "query": ["up", 'max(q{namespace="{namespace}",pod=~"{pods}"})', "rate(x[{window}])", "x{a='b'}"],
    "bad": ["ERROR", "a+", "^x$", "[0-9]{3}", "(?i)fatal", ""],
}
FALSE_TEXTS: Mapping[str, list[str]] = {
    "url": ["", "/x", "ftp://x", "http://x/{y}", "{canary}{x}", "{{canary}/x", "http://x/{{y}", "http://\0"],
    "query": ["", "up{pod}", "x{{pods}y}{z}"],
    "bad": ["(a", "a{1001}", "(?=x)", r"\1", "[a", "*", r"\Z"],
}
BRACES = st.text(alphabet="{}$ -a9", max_size=8)
"""Where placeholders begin and end is easily got wrong."""
MISPLACED: list[Any] = [True, 7, 0.5, "text", [], {}, ["x"], {"name": "x"}]
"""Values of other types than the one that is due."""


@st.composite
def specs(draw: Draw, schema: Schema) -> Any:
    """One spec, as data."""
    return _value(draw, schema, "")


def _chance(draw: Draw, percent: int) -> bool:
    return bool(50 <= draw(st.integers(0, 99)) + percent / 2 < 50 + percent)  # ends are drawn too often


def _value(draw: Draw, schema: Schema, key: str) -> Any:
    if _chance(draw, WRONG):
        return _wrong(draw, schema, key)
    match schema.get("type"):
        case "object":
            return _mapping(draw, schema)
        case "array":
            return _list(draw, schema, key)
        case _:
            return _scalar(draw, schema, key)


def _mapping(draw: Draw, schema: Schema) -> Any:
    if "properties" not in schema:
        words = st.sampled_from(["", "a", "code", "x" * 200])
        return draw(st.dictionaries(words, words, max_size=3))
    required = set(schema.get("required", ()))
    found = {}
    for key, inner in schema["properties"].items():
        present = not _chance(draw, WRONG) if key in required else _chance(draw, PRESENT)
        if present:
            found[key] = _value(draw, inner, key)
    for one, other in _EITHER:
        if one in found and other in found and not _chance(draw, WRONG):
            del found[draw(st.sampled_from([one, other]))]
        elif one in schema["properties"] and other in schema["properties"] and not {one, other} & set(found):
            only = draw(st.sampled_from([one, other]))
            found[only] = _value(draw, schema["properties"][only], only)
    return found


_EITHER = (
    ("ingress", "httpRoute"),
    ("http", "job"),
    ("minimum", "maximum"),
    ("minPerRequest", "maxPerRequest"),
)
"""Pairs of which one has to be there, and seldom both."""


def _list(draw: Draw, schema: Schema, key: str) -> Any:
    if key == "phases" and not _chance(draw, 25):
        return _rising(draw, schema["items"])
    size = draw(st.sampled_from([0, 1, 1, 2, 3]))
    found = [_value(draw, schema["items"], key) for _ in range(max(size, schema.get("minItems", 0)))]
    if not _chance(draw, WRONG):  # most people give every entry a name of its own
        for index, entry in enumerate(found):
            if isinstance(entry, dict) and "name" in entry:
                entry["name"] = f"n{index}"
    return found


def _rising(draw: Draw, schema: Schema) -> Any:
    weights = sorted(draw(st.sets(st.integers(1, 100), min_size=1, max_size=4)))
    phases = [_mapping(draw, schema) for _ in weights]
    staircase = _chance(draw, 30)
    for index, (phase, weight) in enumerate(zip(phases, weights, strict=True)):
        for word in ("weight", "duration", "step", "every"):
            phase.pop(word, None)
        phase["name"] = f"p{index}"
        size, time = ("step", "every") if staircase and index == len(weights) - 1 else ("weight", "duration")
        phase |= {size: weight, time: _value(draw, schema["properties"][time], time)}
    return phases


def _scalar(draw: Draw, schema: Schema, key: str) -> Any:
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    if schema.get("pattern") == DURATION_PATTERN and _chance(draw, 30):
        return format_duration(parse_duration(f"{draw(st.integers(0, 10**11))}ms"))
    if schema.get("pattern") in RIGHT:
        return draw(st.sampled_from(RIGHT[schema["pattern"]]))
    match schema.get("type"):
        case "boolean":
            return draw(st.booleans())
        case "integer":
            return draw(st.integers(schema.get("minimum", -1000), schema.get("maximum", 1000)))
        case "number":
            return draw(_numbers(schema))
    if key in TEXTS:
        return draw(st.sampled_from(TEXTS[key]))
    return draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))


def _numbers(schema: Schema) -> st.SearchStrategy[float]:
    return st.floats(
        schema.get("minimum", -1e6),
        schema.get("maximum", 1e6),
        exclude_min=schema.get("exclusiveMinimum", False),
        exclude_max=schema.get("exclusiveMaximum", False),
        allow_subnormal=False,
    )


def _wrong(draw: Draw, schema: Schema, key: str) -> Any:
    choices: list[st.SearchStrategy[Any]] = [st.sampled_from(MISPLACED)]
    if schema.get("pattern") in FALSE:
        choices += [st.sampled_from(FALSE[schema["pattern"]])] * 4
    if key in FALSE_TEXTS and schema.get("type") == "string":
        choices += [st.sampled_from(FALSE_TEXTS[key]), BRACES.map(lambda text: "http://" + text)]
    if "minimum" in schema:
        edges = [schema["minimum"], schema["minimum"] - 1]
        choices.append(st.sampled_from([*edges, *([schema["maximum"] + 1] if "maximum" in schema else [])]))
    if "enum" in schema:
        choices.append(st.sampled_from(["other", "", schema["enum"][0].upper()]))
    if "maxLength" in schema:
        choices.append(st.just("y" * (schema["maxLength"] + 1)))
    if "properties" in schema:
        choices.append(st.just({"unknown": 1}))
    if schema.get("type") == "array":
        count = schema.get("maxItems", 30) + 1
        choices.append(st.just([{"name": f"n{index}"} for index in range(count)]))
    return draw(st.one_of(choices))

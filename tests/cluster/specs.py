"""Random specs of rollouts from the schema: mostly right, here and there wrong as people get it wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st

from phoenix_orch.kernel.units import (
    DURATION_PATTERN,
    RATIO_PATTERN,
    SIZE_PATTERN,
    format_duration,
    parse_duration,
)
from phoenix_orch.rollout.kubernetes_spec import (
    HEADER_PATTERN,
    JOB_PATTERN,
    OBJECT_PATTERN,
    PRINTABLE_PATTERN,
)
from phoenix_orch.rollout.spec import METRIC_PATTERN, NAME_PATTERN

Schema = Mapping[str, Any]

PRESENT = 45
"""Of a hundred keys that may be left out."""
DEEPER = 70
"""Of a hundred faults at a value that has others in it: so many are in one of those."""

RIGHT: Mapping[str, list[Any]] = {
    DURATION_PATTERN: ["0s", "5s", "10s", "1.5m", "90m", "1d1h1m1s1ms", "3650d", "87600h", "0.5d", "1ms"],
    RATIO_PATTERN: ["0%", "0.1%", "5 %", "100%", "100.00%", "00.5%", "0.0000000001%"],
    SIZE_PATTERN: ["1", "512Mi", "1.5k", "0", 0, 4096, "1Ti"],
    NAME_PATTERN: ["a", "b", "c-1", "d", "e", "f", "shop", "shop-canary", "x" * 63, "w" * 56],
    JOB_PATTERN: ["a", "smoke-test", "x" * 52],
    OBJECT_PATTERN: ["a", "b", "c", "d", "e", "f.g", "shop", "api.example.com", "x" * 246],
    METRIC_PATTERN: ["orders_total", "a:b", "_x"],
    HEADER_PATTERN: ["X-Canary", "a_b", "x" * 128],
    PRINTABLE_PATTERN: ["always", "^eu-.*$", "it's ~", "x" * 1024],
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
    HEADER_PATTERN: ["", "a b", "a:b", "é", "a\n", "x" * 129],
    PRINTABLE_PATTERN: ["", "a\n", "\t", "é", "x" * 1025],
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
BRACES = st.lists(
    st.sampled_from(["{", "}", "$", " ", "a", "{canary}", "{route}", "{pods}", "{x-1}", "{{y}}", "{9}"]),
    max_size=5,
).map("".join)
"""Where placeholders begin and end is easily got wrong."""
MISPLACED: list[Any] = [True, 7, 0.5, "text", [], {}, ["x"], {"name": "x"}]
"""Values of other types than the one that is due."""


class Draw:
    """Values from hypothesis, which can make them simpler; turns from dice, which it would load."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any], dice: Random) -> None:
        self._draw = draw
        self._dice = dice

    def __call__(self, strategy: st.SearchStrategy[Any]) -> Any:
        return self._draw(strategy)

    def pick(self, among: Sequence[Any]) -> Any:
        return self._dice.choice(among)

    def chance(self, percent: int) -> bool:
        return self._dice.random() * 100 < percent


@st.composite
def specs(draw: Callable[[st.SearchStrategy[Any]], Any], schema: Schema) -> Any:
    """One spec, as data: in three of ten cases as it should be, else with a fault, seldom with two.

    A fault is put somewhere below the root, small branches as likely as large ones: so a rule far down in a
    corner is broken as often as one of the many parameters, and most often alone.
    """
    dice = Draw(draw, draw(st.randoms(use_true_random=True)))
    found = _value(dice, schema, "")
    for _ in range(dice.pick([0, 0, 0, 1, 1, 1, 1, 1, 1, 2])):
        found = _faulty(dice, schema, found, "")
    return found


# -- right -------------------------------------------------------------------------------------------


def _value(draw: Draw, schema: Schema, key: str) -> Any:
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
    found = {
        key: _value(draw, inner, key)
        for key, inner in schema["properties"].items()
        if key in required or draw.chance(PRESENT)
    }
    for pair in _EITHER:
        if set(pair) <= schema["properties"].keys():
            only, other = draw(st.permutations(pair))
            found.pop(other, None)
            found.setdefault(only, _value(draw, schema["properties"][only], only))
    if {"header", "cookie"} <= schema["properties"].keys():
        found.setdefault("header", _value(draw, schema["properties"]["header"], "header"))
        found.pop(draw.pick(["value", "pattern"]), None)
    if "httpRoute" in found:
        for key in ("canaryBy", "weightTotal"):
            found.pop(key, None)
    return found


_EITHER = (("ingress", "httpRoute"), ("http", "job"), ("minimum", "maximum"))
"""Pairs of which one has to be there."""


def _list(draw: Draw, schema: Schema, key: str) -> Any:
    if key == "phases":
        return _rising(draw, schema["items"])
    size = draw.pick([0, 1, 1, 2])
    found = [_value(draw, schema["items"], key) for _ in range(size)]
    for index, entry in enumerate(found):
        if isinstance(entry, dict) and "name" in entry:
            entry["name"] = f"n{index}"
    return found


def _rising(draw: Draw, schema: Schema) -> Any:
    weights = sorted(draw(st.sets(st.integers(1, 100), min_size=1, max_size=4)))
    phases = [_mapping(draw, schema) for _ in weights]
    staircase = draw.chance(30)
    for index, (phase, weight) in enumerate(zip(phases, weights, strict=True)):
        for word in ("weight", "duration", "step", "every", "maxWeight"):
            phase.pop(word, None)
        phase["name"] = f"p{index}"
        size, time = ("step", "every") if staircase and index == len(weights) - 1 else ("weight", "duration")
        phase |= {size: weight, time: _value(draw, schema["properties"][time], time)}
        if size == "step" and draw.chance(30):
            phase["maxWeight"] = weight
    return phases


def _scalar(draw: Draw, schema: Schema, key: str) -> Any:
    if "enum" in schema:
        return draw.pick(schema["enum"])
    if schema.get("pattern") == DURATION_PATTERN and draw.chance(30):
        return format_duration(parse_duration(f"{draw(st.integers(0, 10**11))}ms"))
    if schema.get("pattern") in RIGHT:
        return draw.pick(RIGHT[schema["pattern"]])
    match schema.get("type"):
        case "boolean":
            return draw(st.booleans())
        case "integer":
            unit = schema.get("multipleOf", 1)
            least, most = schema.get("minimum", -1000), schema.get("maximum", 1000)
            return draw(st.integers(least // unit, most // unit)) * unit
        case "number":
            return draw(_numbers(schema))
    if key in TEXTS:
        texts = st.sampled_from(TEXTS[key])
        return draw(texts | BRACES.map(lambda text: "http://" + text) if key == "url" else texts)
    return draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))


def _numbers(schema: Schema) -> st.SearchStrategy[float]:
    return st.floats(
        schema.get("minimum", -1e6),
        schema.get("maximum", 1e6),
        exclude_min=schema.get("exclusiveMinimum", False),
        exclude_max=schema.get("exclusiveMaximum", False),
        allow_subnormal=False,
    )


# -- wrong -------------------------------------------------------------------------------------------


def _faulty(draw: Draw, schema: Schema, value: Any, key: str) -> Any:
    """The value with a fault in it, or in its place."""
    if value and draw.chance(DEEPER):
        if isinstance(value, dict) and "properties" in schema:
            inside = draw.pick(_branches(schema, value) or [""])
            if inside:
                broken = _faulty(draw, schema["properties"][inside], value[inside], inside)
                return {**value, inside: broken}
        elif isinstance(value, list) and "items" in schema:
            index = draw.pick(range(len(value)))
            broken = _faulty(draw, schema["items"], value[index], key)
            return [*value[:index], broken, *value[index + 1 :]]
    return _wrong(draw, schema, value, key)


def _branches(schema: Schema, value: Mapping[str, Any]) -> list[str]:
    """Keys to go on in; those with much below them are there several times."""
    found: list[str] = []
    for name in value:
        inner = schema["properties"].get(name, {})
        deep = inner.get("type") == "array" or any(
            "properties" in s for s in inner.get("properties", {}).values()
        )
        found += [name] * (0 if name not in schema["properties"] else 4 if deep else 1)
    return found


def _wrong(draw: Draw, schema: Schema, value: Any, key: str) -> Any:
    choices: list[st.SearchStrategy[Any]] = [st.sampled_from(MISPLACED)]
    if schema.get("pattern") in FALSE:
        choices += [st.sampled_from(FALSE[schema["pattern"]])] * 4
    if key in FALSE_TEXTS and schema.get("type") == "string":
        choices += [st.sampled_from(FALSE_TEXTS[key]), BRACES.map(lambda text: "http://" + text)] * 3
    if "minimum" in schema:
        edges = [schema["minimum"], schema["minimum"] - 1, schema["minimum"] + 1]
        choices.append(st.sampled_from([*edges, *([schema["maximum"] + 1] if "maximum" in schema else [])]))
    if "enum" in schema:
        choices.append(st.sampled_from(["other", "", schema["enum"][0].upper()]))
    if "maxLength" in schema:
        choices.append(st.just("y" * (schema["maxLength"] + 1)))
    if isinstance(value, dict) and "properties" in schema:
        choices.append(st.just({**value, "unknown": 1}))
        choices += [
            st.just({k: v for k, v in value.items() if k != name}) for name in schema.get("required", ())
        ]
        changes = _changes(schema, value)
        choices += [st.just({**value, **change}) for change in changes] * (1 + 12 // max(1, len(changes)))
    if isinstance(value, list):
        count = schema.get("maxItems", 30) + 1
        choices.append(st.just([{"name": f"n{index}"} for index in range(count)]))
        choices.append(st.just([*value, *value]))
        choices.append(st.permutations(value))
        if key == "phases":
            late = [{"name": "z", "step": 50, "every": "1m"}, {"name": "z", "weight": 100, "duration": "1m"}]
            choices += [st.just([*value, one]) for one in late] * 2
    return draw(draw.pick(choices))


def _changes(schema: Schema, value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What breaks a rule across the fields of this mapping, or nearly does."""
    keys = schema["properties"].keys()
    found: list[dict[str, Any]] = []
    if {"weight", "step"} <= keys:
        found += [{"step": 7}, {"every": "1m"}, {"step": 7, "every": "1m"}, {"duration": "1m"}]
        found += [{"maxWeight": 50}, {"maxWeight": 1}]
    if {"interval", "window"} <= keys:
        found += [
            {"interval": "1m1s"},
            {"interval": "1d", "window": "24h"},
            {"window": "9s"},
            {"interval": "0s"},
        ]
    if {"source", "queries"} <= keys:
        found += [{"source": "pods", "queries": [{"name": "q", "query": "up", "minimum": 1}]}]
        found += [{"source": "pods", "queries": []}]
    if {"interval", "timeout"} <= keys:
        found += [{"timeout": "0s"}, {"interval": "0ms"}, {"interval": "1ms"}]
    if "errorsAgainstLimit" in keys:
        none = {"errorsAgainstLimit": 0, "errorsAgainstStable": 0, "latencyAgainstLimit": 0}
        found += [none, {**none, "latencyAgainstLimit": 0.1}, {"errorsAgainstLimit": 0}]
    if {"ingress", "httpRoute"} <= keys:
        found += [{"additional": [value.get("ingress") or value.get("httpRoute") or "a"]}]
        found += [{"canaryBy": {"header": "a"}}, {"canaryBy": {}}, {"weightTotal": 1000}]
    if {"header", "cookie"} <= keys:
        found += [{"value": "a"}, {"pattern": "a"}, {"value": "a", "pattern": "a"}]
    if {"workload", "canary", "traffic"} <= keys:
        found += [{"workload": {"name": "w" * length}, "canary": {}} for length in (56, 57)]
        found += [{"workload": {"name": "a"}, "canary": {"name": name}} for name in ("a", "b")]
        traffic = {"ingress": "i", "service": "a", "canaryService": "a"}
        found += [
            {"traffic": traffic},
            {"traffic": {"ingress": "i", "canaryService": "a"}, "workload": {"name": "a"}},
        ]
    for one, other in (*_EITHER, ("minPerRequest", "maxPerRequest")):
        if {one, other} <= keys:
            present = {name: value[name] for name in (one, other) if name in value}
            found += [{one: inner, other: inner} for inner in present.values()]
    return found

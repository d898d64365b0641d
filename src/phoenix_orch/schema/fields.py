"""Tables of a reference page, from the models and the docstrings below their fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from phoenix_orch.kernel.model_shape import documents, models
from phoenix_orch.kernel.units import DURATION_PATTERN, RATIO_PATTERN, SIZE_PATTERN

Titles = Mapping[str, str]
"""Name of a model → where it stands."""


def sections(root: type[BaseModel], titles: Titles) -> Iterator[str]:
    """A heading and a table for each model that can be reached from `root`."""
    for model in models(root):
        yield section(model, titles)


def section(model: type[BaseModel], titles: Titles) -> str:
    """A heading and a table for one model."""
    told = documents(model)
    rows = []
    for name, info in model.model_fields.items():
        about = told.get(name, "").replace("\n", " ").replace("|", "\\|")
        kind = _words(_schema(info), titles)
        rows.append(f"| `{info.alias or name}` | {kind} | {_default(info)} | {about} |")
    about = " ".join((model.__doc__ or "").split())
    title = titles.get(model.__name__, model.__name__)
    return f"## {title}\n\n{about}\n\n| key | value | default | |\n|---|---|---|---|\n" + "\n".join(rows)


def _schema(info: FieldInfo) -> dict[str, Any]:
    return TypeAdapter(info.rebuild_annotation()).json_schema(by_alias=True)


def _words(schema: dict[str, Any], titles: Titles) -> str:
    if "$ref" in schema:
        return f"mapping, see {titles.get(schema['$ref'].rsplit('/', 1)[-1], 'below')}"
    if "anyOf" in schema:
        words = [_words(option, titles) for option in schema["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(words))
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type")
    if kind == "array":
        return f"list: {_words(schema['items'], titles)}" if "items" in schema else "list"
    if kind == "object":
        extra = schema.get("additionalProperties") or next(
            iter(schema.get("patternProperties", {}).values()), None
        )
        if "properties" in schema:
            return f"mapping, see {titles.get(schema.get('title', ''), 'below')}"
        return f"mapping of names to: {_words(extra, titles)}" if isinstance(extra, dict) else "mapping"
    return _scalar(schema)


def _scalar(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    span = (
        f" {low} to {high}"
        if low is not None and high is not None
        else f" from {low}"
        if low is not None
        else ""
    )
    example = schema.get("examples", [None])[0]
    names = {
        DURATION_PATTERN: "duration",
        RATIO_PATTERN: "share",
        SIZE_PATTERN: "size",
    }
    name = names.get(
        schema.get("pattern", ""),
        {"integer": "whole number", "string": "text"}.get(
            schema.get("type", ""), schema.get("type", "anything")
        ),
    )
    return f"{name}{span}" + (f", as `{example}`" if example and name == "text" else "")


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return "none"
    if value == "":
        return "empty"
    if isinstance(value, BaseModel):
        return "as below"
    if isinstance(value, tuple | dict) and (not value or isinstance(next(iter(value)), BaseModel)):
        return "empty" if not value else "the guide's phases, see below"
    text = TypeAdapter(info.rebuild_annotation()).dump_python(value, mode="json")
    return f"`{text}`"

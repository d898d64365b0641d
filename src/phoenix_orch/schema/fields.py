"""The tables of the reference of phoenix.yaml, from the models and the docstrings below their fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from phoenix_orch.kernel.model_shape import documents, models
from phoenix_orch.kernel.units import DURATION_PATTERN, RATIO_PATTERN, SIZE_PATTERN

TITLES = {
    "PhoenixFile": "The file",
    "RouterSpec": "router",
    "ServiceSpec": "services.NAME",
    "Health": "services.NAME.health",
    "RouteSpec": "routes.NAME",
    "RolloutEntry": "rollouts.NAME",
    "Phase": "rollouts.NAME.phases[]",
    "Limits": "rollouts.NAME.phases[].limits",
    "Evidence": "rollouts.NAME.evidence",
    "BusinessMetric": "rollouts.NAME.evidence.business[]",
    "PlainValue": "rollouts.NAME.evidence.values[]",
    "Check": "rollouts.NAME.checks[]",
    "HttpCheck": "http of a check or a critical path",
    "CommandCheck": "rollouts.NAME.checks[].exec",
    "Policy": "rollouts.NAME.policy",
    "Statistical": "rollouts.NAME.policy.statistical",
    "Shares": "rollouts.NAME.policy.statistical.shares",
    "Onset": "rollouts.NAME.policy.statistical.onset",
    "CrashLoop": "rollouts.NAME.policy.crashLoop",
    "Verify": "rollouts.NAME.verify",
    "LogPatterns": "rollouts.NAME.verify.logs",
    "CriticalPath": "rollouts.NAME.verify.criticalPaths[]",
}


def sections(root: type[BaseModel]) -> Iterator[str]:
    """A heading and a table for each model that can be reached from `root`."""
    for model in models(root):
        yield _section(model)


def _section(model: type[BaseModel]) -> str:
    told = documents(model)
    rows = []
    for name, info in model.model_fields.items():
        about = told.get(name, "").replace("\n", " ").replace("|", "\\|")
        rows.append(f"| `{info.alias or name}` | {_type(info)} | {_default(info)} | {about} |")
    about = " ".join((model.__doc__ or "").split())
    title = TITLES.get(model.__name__, model.__name__)
    return f"## {title}\n\n{about}\n\n| key | value | default | |\n|---|---|---|---|\n" + "\n".join(rows)


def _type(info: FieldInfo) -> str:
    return _words(_schema(info))


def _schema(info: FieldInfo) -> dict[str, Any]:
    return TypeAdapter(info.rebuild_annotation()).json_schema(by_alias=True)


def _words(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return f"mapping, see {TITLES.get(schema['$ref'].rsplit('/', 1)[-1], 'below')}"
    if "anyOf" in schema:
        words = [_words(option) for option in schema["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(words))
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type")
    if kind == "array":
        return f"list: {_words(schema['items'])}" if "items" in schema else "list"
    if kind == "object":
        extra = schema.get("additionalProperties") or next(
            iter(schema.get("patternProperties", {}).values()), None
        )
        if "properties" in schema:
            return f"mapping, see {TITLES.get(schema.get('title', ''), 'below')}"
        return f"mapping of names to: {_words(extra)}" if isinstance(extra, dict) else "mapping"
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
    if isinstance(value, BaseModel):
        return "as below"
    if isinstance(value, tuple | dict) and (not value or isinstance(next(iter(value)), BaseModel)):
        return "empty" if not value else "the guide's phases, see below"
    text = TypeAdapter(info.rebuild_annotation()).dump_python(value, mode="json")
    return f"`{text}`"

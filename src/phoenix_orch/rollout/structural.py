"""A pydantic model as a structural schema of Kubernetes: without references, every type said once.

Beyond what JSON Schema says, a structural schema has rules in CEL, says how appliers share lists, and has
defaults that the API server writes into the object. https://kubernetes.io/docs/tasks/extend-kubernetes/
custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from phoenix_orch.kernel import model_shape
from phoenix_orch.rollout import crd_rules
from phoenix_orch.rollout.cel import Rule

Schema = dict[str, Any]

_SIZES = ("minLength", "maxLength", "minItems", "maxItems", "maxProperties")
_COPIED = ("type", "format", "enum", "pattern", "minimum", "maximum", "multipleOf", *_SIZES)
_BOUNDS = frozenset(
    {*_COPIED, "required", "default", "exclusiveMinimum", "exclusiveMaximum", "x-kubernetes-validations"}
    | {"x-kubernetes-list-map-keys"}
) - {"type", "format"}


class Structural:
    """Schemas of models below one root.

    `undefaulted`: models whose defaults are told, not written: the program's own count, and may become better
    ones with its next version. `opaque`: models that are kept as they are.
    """

    def __init__(
        self,
        root: type[BaseModel],
        undefaulted: Sequence[type[BaseModel]] = (),
        opaque: Sequence[type[BaseModel]] = (),
    ) -> None:
        self._root = root
        self._classes = {model.__name__: model for model in model_shape.models(root)}
        self._undefaulted = frozenset(undefaulted)
        self._opaque = frozenset(opaque)
        found = root.model_json_schema(by_alias=True)
        self._definitions: Mapping[str, Schema] = {**found.get("$defs", {}), root.__name__: found}

    def schema(self) -> Schema:
        """The schema of the root."""
        return self._of_model(self._root)

    def _of_model(self, model: type[BaseModel]) -> Schema:
        schema: Schema = {"type": "object", "description": _one_line(model.__doc__ or "")}
        if model in self._opaque:
            return {**schema, "x-kubernetes-preserve-unknown-fields": True}
        found = self._definitions[model.__name__]
        told = model_shape.documents(model)
        schema["properties"] = {
            key: self._of_field(model, key, info, found["properties"][key], told.get(name, ""))
            for name, info in model.model_fields.items()
            for key in (info.alias or name,)
        }
        if "required" in found:
            schema["required"] = found["required"]
        return _ruled(schema, crd_rules.MODELS.get(model, ()))

    def _of_field(
        self, model: type[BaseModel], key: str, info: FieldInfo, found: Schema, told: str
    ) -> Schema:
        schema = self._convert(found)
        description = _one_line(told) or schema.get("description", "")
        default = _filled(schema) if isinstance(info.default, BaseModel) else _default(info)
        if default is not None and not {model, info.annotation} & self._undefaulted:
            schema["default"] = default
        elif default is not None and not isinstance(info.default, BaseModel):
            description += f" Default: {_shown(default)}."
        if description:
            schema["description"] = description
        place = (model, key)
        if schema.get("type") == "array":
            schema |= crd_rules.LIST_KEYS.get(place, _list_type(schema["items"]))
            _ruled(schema["items"], crd_rules.ITEMS.get(place, ()))
        return _ruled(schema, crd_rules.FIELDS.get(place, ()))

    def _convert(self, found: Schema) -> Schema:
        if "$ref" in found:
            return self._of_reference(found["$ref"].rsplit("/", 1)[-1])
        if "anyOf" in found:
            options = [option for option in found["anyOf"] if option.get("type") != "null"]
            return self._convert(options[0]) if len(options) == 1 else _int_or_string(options)
        schema = {key: found[key] for key in _COPIED if key in found}
        if "const" in found:
            schema["enum"] = [found["const"]]
        if "exclusiveMinimum" in found:  # a number in JSON Schema of today, a flag in OpenAPI 3.0
            schema |= {"minimum": found["exclusiveMinimum"], "exclusiveMinimum": True}
        if "exclusiveMaximum" in found:
            schema |= {"maximum": found["exclusiveMaximum"], "exclusiveMaximum": True}
        if found.get("type") == "array":
            schema["items"] = self._convert(found["items"])
        if found.get("type") == "object":
            schema["additionalProperties"] = self._convert(found["additionalProperties"])
        pattern = found.get("pattern", "")
        if pattern in crd_rules.LENGTHS:
            schema["maxLength"] = crd_rules.LENGTHS[pattern]
        return _ruled(schema, crd_rules.of_text(pattern))

    def _of_reference(self, name: str) -> Schema:
        """A model, or an enumeration, which has no fields."""
        model = self._classes.get(name)
        return self._of_model(model) if model is not None else self._convert(self._definitions[name])


def unbounded(schema: Schema) -> Schema:
    """The types of a schema and nothing that could refuse a value of the type."""
    kept: Schema = {key: value for key, value in schema.items() if key not in _BOUNDS}
    if kept.get("type") == "array":
        kept["x-kubernetes-list-type"] = "atomic"
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = unbounded(kept[key])
    if "properties" in kept:
        kept["properties"] = {key: unbounded(value) for key, value in kept["properties"].items()}
    return kept


def _ruled(schema: Schema, rules: Sequence[Rule]) -> Schema:
    if rules:
        key = "x-kubernetes-validations"
        schema[key] = [*schema.get(key, ()), *(rule.as_schema() for rule in rules)]
    return schema


def _int_or_string(options: Sequence[Schema]) -> Schema:
    """A size. The one place where Kubernetes admits two types; anyOf says so in its own fixed form."""
    number, text = sorted(options, key=lambda option: str(option["type"]))
    assert (number["type"], text["type"]) == ("integer", "string")
    return {
        "x-kubernetes-int-or-string": True,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "minimum": number["minimum"],
        "maxLength": text["maxLength"],
        "pattern": text["pattern"],
    }


def _list_type(items: Schema) -> Schema:
    """Appliers share a list whose entries have names by these, and own any other as a whole."""
    if "name" in items.get("required", ()):
        return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    return {"x-kubernetes-list-type": "atomic"}


def _default(info: FieldInfo) -> Any:
    """As JSON."""
    value = info.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or value in ((), {}):
        return None
    adapter: TypeAdapter[Any] = TypeAdapter(info.rebuild_annotation())
    return adapter.dump_python(value, mode="json", by_alias=True, exclude_none=True)


def _filled(schema: Schema) -> Any:
    """The default of a mapping: with those of its keys, since its rules are tried on it as it stands."""
    filled = {key: inner["default"] for key, inner in schema["properties"].items() if "default" in inner}
    return filled or None


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())

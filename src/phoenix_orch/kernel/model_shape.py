"""What a pydantic model allows at a place, in words for people."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from phoenix_orch.kernel.units import format_duration

TOO_FEW = "too few entries"

FORMS = {
    r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$": "1 to 63 of a-z, 0-9 and '-', not first or last a '-'",
    r"^[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?$": "1 to 52 of a-z, 0-9 and '-', not first or last a '-'",
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$": (
        "a-z, 0-9, '-' and '.', first and last of each part a letter or digit"
    ),
    r"^/": "a path that begins with '/'",
    r"^[A-Za-z0-9_-]+$": "letters, digits, '_' and '-'",
    r"^[ -~]+$": "printable characters of ASCII",
    r"^[A-Za-z0-9][A-Za-z0-9._+-]*$": "letters, digits and . _ + -, first a letter or digit",
    r"^[a-zA-Z_:][a-zA-Z0-9_:]*$": "a Prometheus metric name: letters, digits, '_' and ':', first no digit",
}
"""Patterns of our models in words."""
_TYPES = {
    "string_type": ("this has to be text", "text"),
    "int_type": ("this has to be a whole number", "a whole number"),
    "int_from_float": ("this has to be a whole number", "a whole number"),
    "int_parsing": ("this has to be a whole number", "a whole number"),
    "float_type": ("this has to be a number", "a number"),
    "float_parsing": ("this has to be a number", "a number"),
    "finite_number": ("this has to be a finite number", "a finite number"),
    "bool_type": ("this has to be true or false", "true, false"),
    "tuple_type": ("this has to be a list", "a list"),
    "list_type": ("this has to be a list", "a list"),
    "dict_type": ("this has to be a mapping", "a mapping of keys to values"),
}


def keys(model: object) -> tuple[str, ...]:
    """Keys a mapping of this model may have, as the file spells them."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        return tuple(info.alias or name for name, info in model.model_fields.items())
    return ()


def at(model: type[BaseModel], loc: tuple[int | str, ...]) -> Any:
    """The annotation found by walking `loc` down from the model; None where it leads nowhere."""
    here: Any = model
    for part in loc:
        here = inside(here, part)
        if here is None:
            return None
    return bare(here)


def inside(annotation: Any, part: int | str) -> Any:
    """What is expected at one key, or index, of something; None where nothing is."""
    return _inside(bare(annotation), part)


def field(model: type[BaseModel], loc: tuple[int | str, ...]) -> FieldInfo | None:
    """The declaration of the field at `loc`, for its examples."""
    if not loc:
        return None
    parent = at(model, loc[:-1])
    if isinstance(parent, type) and issubclass(parent, BaseModel):
        return _fields(parent).get(str(loc[-1]))
    return None


def explain(details: ErrorDetails, info: FieldInfo | None) -> tuple[str, str]:
    """(what is wrong, what is allowed) for one of pydantic's errors, in our words."""
    kind, context = details["type"], details.get("ctx", {})
    if kind in _TYPES:
        message, allowed = _TYPES[kind]
        return message, allowed
    match kind:
        case "value_error":
            return _of_validator(str(context.get("error", details["msg"])))
        case "literal_error" | "enum":
            return "not one of the allowed words", ", ".join(choices(details))
        case "string_pattern_mismatch":
            pattern = str(context["pattern"])
            return "not a valid form", FORMS.get(pattern, f"text that matches {pattern}")
        case "greater_than_equal" | "less_than_equal" | "greater_than" | "less_than":
            return "out of range", _range(context, info)
        case "too_short":
            return TOO_FEW, f"at least {context['min_length']}"
        case "string_too_short":
            return "too short", f"at least {context['min_length']} character(s)"
        case "string_too_long":
            return "too long", f"at most {context['max_length']} characters"
        case "model_type" | "model_attributes_type" | "dataclass_type":
            return "this has to be a mapping", ", ".join(_mapping_keys(info))
        case "missing":
            return "this is missing", ""
        case "extra_forbidden":
            return "unknown key", ""
        case "json_invalid":
            return f"the body is not JSON: {context.get('error', '')}", ""
        case _:
            return details["msg"][:1].lower() + details["msg"][1:], ""


def choices(details: ErrorDetails) -> tuple[str, ...]:
    """The words of a literal that was missed."""
    expected = str(details.get("ctx", {}).get("expected", ""))
    return tuple(re.findall(r"'([^']*)'", expected))


def models(root: type[BaseModel]) -> list[type[BaseModel]]:
    """All models that can be reached from `root`, itself first, breadth first."""
    found = [root]
    for model in found:
        parts = [part for info in model.model_fields.values() for part in _models_in(info.annotation)]
        found += [part for part in dict.fromkeys(parts) if part not in found]
    return found


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    here = bare(annotation)
    if isinstance(here, type) and issubclass(here, BaseModel):
        yield here
    for part in get_args(here):
        yield from _models_in(part)


def documents(model: type[BaseModel]) -> dict[str, str]:
    """The string below each field, which Python itself does not keep; those of bases too."""
    found: dict[str, str] = {}
    for part in reversed(model.__mro__):
        if not (isinstance(part, type) and issubclass(part, BaseModel)) or part.__module__.startswith(
            "pydantic"
        ):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(part))).body[0]
        assert isinstance(body, ast.ClassDef)
        name = ""
        for statement in body.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                name = statement.target.id
            elif name and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                found[name] = " ".join(str(statement.value.value).split())
            else:
                name = ""
    return found


def _of_validator(text: str) -> tuple[str, str]:
    """Our own validators say `what is wrong; write what is right`."""
    message, _, allowed = text.partition("; write ")
    return message, allowed


def _range(context: Mapping[str, Any], info: FieldInfo | None) -> str:
    """Both ends where the field declares both, not only the one that was crossed."""
    bounds = dict(context)
    for part in _constraints(info):
        for name in ("ge", "gt", "le", "lt"):
            if getattr(part, name, None) is not None:
                bounds[name] = getattr(part, name)  # pydantic tells some as Python has them
    shown = {name: _shown(bound) for name, bound in bounds.items()}
    if {"ge", "le"} <= shown.keys():
        return f"{shown['ge']} to {shown['le']}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " and ".join(f"{words[name]} {shown[name]}" for name in words if name in shown)


def _shown(bound: Any) -> str:
    """A bound as a file would have it."""
    return format_duration(bound) if isinstance(bound, timedelta) else str(bound)


def _constraints(info: FieldInfo | None) -> list[Any]:
    if info is None:
        return []
    found = list(info.metadata)
    for part in (info.annotation, *get_args(info.annotation)):
        if get_origin(part) is Annotated:
            for extra in get_args(part)[1:]:
                found += extra.metadata if isinstance(extra, FieldInfo) else [extra]
    return found


def _mapping_keys(info: FieldInfo | None) -> tuple[str, ...]:
    return keys(bare(info.annotation)) if info is not None else ()


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {info.alias or name: info for name, info in model.model_fields.items()}


def bare(annotation: Any) -> Any:
    """Without Annotated and Optional."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, types.UnionType):
            options = [option for option in get_args(annotation) if option is not type(None)]
            if len(options) != 1:
                return annotation
            annotation = options[0]
        else:
            return annotation


def _inside(annotation: Any, part: int | str) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        info = _fields(annotation).get(str(part))
        return info.annotation if info is not None else None
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict and len(arguments) == 2:
        return arguments[1]
    if origin in (tuple, list) and arguments:
        return arguments[0]
    return None

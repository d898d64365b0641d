"""Options that several commands have, written once: a dataclass whose fields are the options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


def grouped(command: Callable[..., T]) -> Callable[..., T]:
    """The command as Typer reads it: in the place of each parameter that is a dataclass stand its fields,
    in their order. The command itself is given the dataclass."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    written = inspect.signature(command).parameters.values()

    @functools.wraps(command)
    def called(**given: Any) -> T:
        made = {
            name: group(**{one.name: given.pop(one.name) for one in fields(group)})
            for name, group in groups.items()
        }
        return command(**made, **given)

    found = [
        parameter
        for one in written
        for parameter in (
            _options(groups[one.name])
            if one.name in groups
            else [one.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[one.name])]
        )
    ]
    called.__signature__ = inspect.Signature(found, return_annotation=hints["return"])  # type: ignore[attr-defined]
    return called


def _options(group: Any) -> list[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(
            one.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if one.default is MISSING else one.default,
            annotation=hints[one.name],
        )
        for one in fields(group)
    ]

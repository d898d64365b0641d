"""What a status says is read again, whatever of it is nothing."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from phoenix_orch.rollout.kubernetes_status import KubernetesStatus


def models(kind: Any, seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    """Every model below a type, once."""
    if inspect.isclass(kind) and issubclass(kind, BaseModel):
        if kind in seen:
            return
        seen.add(kind)
        yield kind
        for field in kind.model_fields.values():
            yield from models(field.annotation, seen)
    for part in get_args(kind):
        yield from models(part, seen)


def test_what_may_be_nothing_may_be_left_out() -> None:
    """The API server keeps no null: a field without a value is a field that is not there."""
    needed = [
        f"{model.__name__}.{name}"
        for model in models(KubernetesStatus, set())
        for name, field in model.model_fields.items()
        if type(None) in get_args(field.annotation) and field.is_required()
    ]
    assert needed == []

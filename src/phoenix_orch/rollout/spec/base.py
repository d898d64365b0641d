"""What every model of the file format is, and the words that many of them use. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A DNS label, so that embedded names stay valid when a team moves to Kubernetes."""

METRIC_PATTERN = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$"
MetricName = Annotated[str, StringConstraints(pattern=METRIC_PATTERN, max_length=200)]
"""A name of the Prometheus exposition format."""
LabelText = Annotated[str, StringConstraints(max_length=200)]
Labels = Annotated[dict[LabelText, LabelText], Field(max_length=20)]
MOST = 30
"""Entries of one list at most: phases, checks, metrics, paths, patterns."""


class Model(BaseModel):
    """A frozen value with camelCase keys in files and JSON, that refuses keys it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        hide_input_in_errors=True,  # it may be an environment
    )


def distinct(names: Iterable[str], what: str) -> None:
    """Raises ValueError where a name stands twice; `what` is the plural of what is named."""
    found = list(names)
    if len(set(found)) != len(found):
        raise ValueError(f"two {what} have the same name")

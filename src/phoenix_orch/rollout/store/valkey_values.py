"""What is stored in Valkey, read as models; what cannot be read is told with the key that it is in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from phoenix_orch.kernel.errors import Terminal

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


def text_of(value: Any) -> str:
    """A reply of the server as text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def decoded(model: type[M], text: Any, where: str) -> M:
    """The model that is stored at `where`. Raises Terminal."""
    return read(model.model_validate_json, text or b"", where)


def read(reader: Callable[[bytes], T], text: Any, where: str) -> T:
    """What `reader` makes of the text that is stored at `where`. Raises Terminal where it cannot."""
    try:
        return reader(text)
    except (ValueError, TypeError) as error:  # ValidationError is a ValueError
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise Terminal(
            f"what is stored in {where} cannot be read: {reason}",
            remedy="another release of Phoenix or another program wrote it: "
            "use that release, restore a backup, or remove the key",
        ) from None

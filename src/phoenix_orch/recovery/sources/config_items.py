"""What a source of configuration finds, one thing at a time, and what the finding came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Document:
    """An object of Kubernetes, normalised. Of a Secret, `sealed`, no value is written in clear."""

    path: str
    kind: str
    content: dict[str, Any]
    sealed: bool = False
    owners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """A file of a machine; sealed as a whole, since nobody knows where in it secrets are."""

    path: str
    content: bytes
    kind: str = "File"


Item = Document | File


@dataclass(slots=True)
class Tally:
    """What was found and what was left out, for the manifest. Filled while items are read."""

    kinds: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    not_served: list[str] = field(default_factory=list)
    """Kinds that the cluster does not know, or files that are not there."""


class Items(Protocol):
    """A place that has configuration. Synchronous: it is read in a worker thread."""

    source: dict[str, Any]
    """Where that is, for the manifest; no secret."""

    def read(self, tally: Tally) -> AbstractContextManager[Iterator[Item]]:
        """All of it, in bounded memory. Raises PhoenixError where it cannot be whole: a part is no backup."""
        ...

"""Patches that hold only for the object they were made for. Pure.

There is no patch without a condition: a decision about an object that has changed since is no decision
(rule R4). A condition that does not hold is a Conflict, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phoenix_orch.kube.resources import Object, version_of


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch as it is sent."""

    content_type: str
    body: Any


def merge_patch(changes: Mapping[str, Any], *, version: str) -> Patch:
    """Set the leaves of `changes`, remove those that are None, if the object is still at `version`.

    Lists are replaced as a whole (RFC 7396).
    """
    metadata = {**(changes.get("metadata") or {}), "resourceVersion": version}
    return Patch("application/merge-patch+json", {**changes, "metadata": metadata})


def merge_patch_of(found: Object, changes: Mapping[str, Any]) -> Patch:
    """`merge_patch` on the version of `found`."""
    return merge_patch(changes, version=version_of(found))


def json_patch(operations: Sequence[Mapping[str, Any]], *, version: str | None = None) -> Patch:
    """The operations of RFC 6902, if the object is still at `version`, or if their own tests hold.

    With a `test` of one field instead of `version`, writes of others to other fields are no conflict.
    Raises ValueError when there is neither.
    """
    tests = [] if version is None else [test("/metadata/resourceVersion", version)]
    if not tests and not any(operation["op"] == "test" for operation in operations):
        raise ValueError("a JSON patch needs a version or a test")
    return Patch("application/json-patch+json", [*tests, *operations])


def test(path: str, value: Any) -> Mapping[str, Any]:
    """An operation that holds while the field at `path` is `value`."""
    return {"op": "test", "path": path, "value": value}


def pointer(*parts: str | int) -> str:
    """A JSON pointer, escaped: annotations have slashes in their names."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)

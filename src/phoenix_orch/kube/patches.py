"""Patches that hold only for the object they were made for. Pure.

There is no patch without a condition: a decision about an object that has changed since is no decision
(rule R4). A condition that does not hold is a Conflict, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phoenix_orch.kube.resources import Object, version_of

JSON_PATCH = "application/json-patch+json"


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
    return Patch(JSON_PATCH, [*tests, *operations])


def test(path: str, value: Any) -> Mapping[str, Any]:
    """An operation that holds while the field at `path` is `value`."""
    return {"op": "test", "path": path, "value": value}


def tests_hold(patch: Patch, found: Object) -> bool:
    """Whether all tests of a JSON patch hold for `found`, as it is before the patch."""
    return all(
        _at(found, operation["path"]) == operation["value"]
        for operation in patch.body
        if operation["op"] == "test"
    )


def _at(found: Any, path: str) -> Any:
    """What is at a JSON pointer; None where nothing is, as JSON patch has it."""
    for part in path.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list):
            found = found[int(name)] if name.isdecimal() and int(name) < len(found) else None
        else:
            found = found.get(name) if isinstance(found, dict) else None
    return found


def pointer(*parts: str | int) -> str:
    """A JSON pointer, escaped: annotations have slashes in their names."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)

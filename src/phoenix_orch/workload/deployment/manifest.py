"""Objects of the API server as dictionaries, and the difference between two of them as a merge patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Manifest = Mapping[str, Any]
"""An object, or a part of one, as the API server stores it. Never changed in place."""

Patch = dict[str, Any]
"""A JSON merge patch (RFC 7386): None takes a field away, lists are replaced whole."""


def at(tree: Any, *path: str | int) -> Any:
    """The value at `path`; None where the way ends."""
    for step in path:
        if isinstance(step, int):
            tree = tree[step] if isinstance(tree, Sequence) and len(tree) > step else None
        else:
            tree = tree.get(step) if isinstance(tree, Mapping) else None
    return tree


def mapping(tree: Any, *path: str) -> Manifest:
    """The mapping at `path`; an empty one where there is none."""
    found = at(tree, *path)
    return found if isinstance(found, Mapping) else {}


def items(tree: Any, *path: str) -> list[Any]:
    """The list at `path`; an empty one where there is none."""
    found = at(tree, *path)
    return list(found) if isinstance(found, Sequence) and not isinstance(found, str) else []


def name_of(manifest: Manifest) -> str:
    return str(at(manifest, "metadata", "name") or "")


def uid_of(manifest: Manifest) -> str:
    return str(at(manifest, "metadata", "uid") or "")


def annotation(manifest: Manifest, name: str) -> str | None:
    found = at(manifest, "metadata", "annotations", name)
    return None if found is None else str(found)


def labels(manifest: Manifest) -> dict[str, str]:
    return dict(mapping(manifest, "metadata", "labels"))


def controller(manifest: Manifest) -> Manifest | None:
    """The owner that manages it."""
    owners = items(manifest, "metadata", "ownerReferences")
    return next((owner for owner in owners if owner.get("controller")), None)


def owned_by(manifest: Manifest, owner: Manifest) -> bool:
    """`owner` manages it; by uid, since names come back."""
    found = controller(manifest)
    return found is not None and bool(uid_of(owner)) and found.get("uid") == uid_of(owner)


def difference(before: Any, after: Any) -> Patch:
    """The merge patch that makes `after` of `before`. Both are mappings without None in them."""
    patch: Patch = {key: None for key in before if key not in after}
    for key, value in after.items():
        if key not in before:
            patch[key] = value
        elif before[key] != value:
            old = before[key]
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            patch[key] = difference(old, value) if both else value
    return patch

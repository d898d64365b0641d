"""The objects of one kind as they are known, and what a list or an event changes of that. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from phoenix_orch.kube.resources import Key, Object, key_of, version_of


class Snapshot:
    """Objects by key. What it is told replaces what it knew: also an older version, as after the restore
    of a cluster from a backup. Lists and watches are the API server's word, and their order is its."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}

    @property
    def objects(self) -> Mapping[Key, Object]:
        return self._objects

    def replace(self, listed: dict[Key, Object]) -> set[Key]:
        """Everything there is now. Gives the keys that came, went or changed."""
        before, self._objects = self._objects, listed
        changed = {key for key, found in listed.items() if key not in before or not same(found, before[key])}
        return changed | (before.keys() - listed.keys())

    def put(self, found: Object) -> Key | None:
        """An object came or changed. Gives its key, or None when it was known like this."""
        key = key_of(found)
        known = self._objects.get(key)
        self._objects[key] = found
        return None if known is not None and same(found, known) else key

    def remove(self, found: Object) -> Key | None:
        """An object went. Gives its key, or None when it was not known."""
        key = key_of(found)
        return key if self._objects.pop(key, None) is not None else None

    def differing(self, versions: Mapping[Key, tuple[str, str]]) -> set[Key]:
        """Keys whose uid and version are not as `versions` says, or that only one side has."""
        return {
            key
            for key in self._objects.keys() | versions.keys()
            if key not in self._objects
            or key not in versions
            or identity(self._objects[key]) != versions[key]
        }


def identity(found: Object) -> tuple[str, str]:
    """The uid and the resourceVersion: the same exactly when nothing has changed."""
    return str(found["metadata"]["uid"]), version_of(found)


def identities(objects: Iterable[Object]) -> dict[Key, tuple[str, str]]:
    return {key_of(found): identity(found) for found in objects}


def same(one: Object, other: Object) -> bool:
    return identity(one) == identity(other)

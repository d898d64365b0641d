"""As much of an API server as the routers use: objects by version, merge patches on a condition.

`before` is called before every write with what is about to happen: a test puts its fault or its quicker
writer there.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping
from typing import Any

from phoenix_orch.kernel.errors import Conflict, NotFound
from phoenix_orch.kube.client import Page
from phoenix_orch.kube.errors import AlreadyExists
from phoenix_orch.kube.patches import Patch
from phoenix_orch.kube.resources import Object, Resource

NAMESPACE = "phoenix-orch"


class FakeApi:
    manager = "phoenix-orch"
    namespace = NAMESPACE

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.writes: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = _nothing
        self._version = 0

    @property
    def urgent(self) -> FakeApi:
        return self

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        await asyncio.sleep(0)
        return copy.deepcopy(self._existing(resource, name))

    async def list(self, resource: Resource, namespace: str | None = None, *, labels: str = "") -> Page:
        await asyncio.sleep(0)
        key, of_value, value = labels.partition("=")

        def selected(found: Mapping[str, str]) -> bool:
            return not key or (found.get(key) == value if of_value else key in found)

        found = [
            {name: part for name, part in one.items() if name not in {"kind", "apiVersion"}}
            for (plural, _), one in sorted(self.objects.items())
            if plural == resource.plural and selected(one["metadata"].get("labels", {}))
        ]
        return Page(copy.deepcopy(found), str(self._version))

    async def create(
        self, resource: Resource, body: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        await asyncio.sleep(0)
        name = body["metadata"]["name"]
        self._about_to("create", name)
        if (resource.plural, name) in self.objects:
            raise AlreadyExists(f"{name} exists")
        if dry_run:
            return body
        return self.put(resource, body)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Patch,
        namespace: str | None = None,
        *,
        dry_run: bool = False,
    ) -> Object:
        await asyncio.sleep(0)
        self._about_to("patch", name)
        found = self._existing(resource, name)
        if patch.body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            raise Conflict(f"{name} has changed")
        if dry_run:
            return found
        return self.put(resource, merged(found, patch.body))

    async def replace(
        self, resource: Resource, body: Object, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        """Of a subresource that is all that is replaced."""
        await asyncio.sleep(0)
        name = body["metadata"]["name"]
        self._about_to("replace", name)
        found = self._existing(resource, name)
        if body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
            raise Conflict(f"{name} has changed")
        return self.put(resource, {**found, subresource: body[subresource]} if subresource else body)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str,
        version: str | None = None,
        dry_run: bool = False,
    ) -> None:
        self._about_to("delete", name)
        found = self._existing(resource, name)["metadata"]
        if found["uid"] != uid or version not in (None, found["resourceVersion"]):
            raise Conflict(f"{name} has changed")
        if dry_run:
            return
        del self.objects[resource.plural, name]

    # What tests do to it.

    def put(self, resource: Resource, body: Object) -> Object:
        """As somebody with kubectl does."""
        self._version += 1
        stored = copy.deepcopy({"kind": resource.kind, "apiVersion": resource.api_version, **body})
        before = self.objects.get((resource.plural, body["metadata"]["name"]), {})
        metadata = stored["metadata"]
        metadata.setdefault("uid", str(self._version))
        metadata["resourceVersion"] = str(self._version)
        changed = before.get("spec") != stored.get("spec")
        metadata["generation"] = before.get("metadata", {}).get("generation", 0) + changed
        metadata["namespace"] = NAMESPACE
        self.objects[resource.plural, metadata["name"]] = stored
        return copy.deepcopy(stored)

    def edit(self, resource: Resource, name: str, changes: Mapping[str, Any]) -> None:
        """A hand's change, on no condition."""
        self.put(resource, merged(self._existing(resource, name), changes))

    def see(self, resource: Resource, name: str) -> Object:
        return copy.deepcopy(self._existing(resource, name))

    def _existing(self, resource: Resource, name: str) -> Object:
        try:
            return self.objects[resource.plural, name]
        except KeyError:
            raise NotFound(f"{resource.kind} {name} does not exist") from None

    def _about_to(self, verb: str, name: str) -> None:
        self.before(verb, name)
        self.writes.append((verb, name))


def _nothing(verb: str, name: str) -> None:
    pass


def merged(found: Any, changes: Any) -> Any:
    """RFC 7396."""
    if not isinstance(changes, Mapping):
        return copy.deepcopy(changes)
    result = dict(copy.deepcopy(found)) if isinstance(found, Mapping) else {}
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result

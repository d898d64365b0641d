"""The Kubernetes API, for any kind of object, as plain dicts.

Every call is bounded in time, waits for its place in the rate, is tried again where that is safe
(`retry.py`), and fails with errors that say what to do (`errors.py`). Every write is conditional, or
the same however often it is done.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import version as package_version
from typing import Any, Literal, Self

import msgspec

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kube.caller import Caller, Fence
from phoenix_orch.kube.config import Target
from phoenix_orch.kube.errors import Call, Changed, Gone, Unanswered, Unapplicable
from phoenix_orch.kube.lanes import NORMAL, URGENT, Lane, Limits
from phoenix_orch.kube.patches import JSON_PATCH, Patch, tests_hold
from phoenix_orch.kube.resources import Object, Resource, key_of
from phoenix_orch.kube.wire import Pool, Request, Streamed, Wire

FIELD_MANAGER = "phoenix-orch"
PAGE = 500
"""Objects in one page of a list."""
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

Propagation = Literal["Orphan", "Background", "Foreground"]


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list. All parts show the same moment, that of `version`."""

    items: list[Object]
    version: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The objects of one kind that a list or a watch is about."""

    resource: Resource
    namespace: str
    """`ALL_NAMESPACES` for all of them, and for cluster-wide kinds."""
    labels: str = ""
    """A label selector, as kubectl takes it."""
    fields: str = ""
    """A field selector."""

    def parameters(self) -> dict[str, str]:
        given = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {name: value for name, value in given.items() if value}


class KubeClient:
    """One API server. Safe for any number of tasks of one event loop. Close it, or use `async with`.

    `namespace=None` in a call is the namespace of the kubeconfig's context, or of the pod.
    """

    def __init__(
        self,
        target: Target,
        *,
        component: str = "phoenix",
        manager: str = FIELD_MANAGER,
        normal: Limits = NORMAL,
        urgent: Limits = URGENT,
    ) -> None:
        """Connects at the first call. `component` is told to the API server, for its audit log.

        Raises Invalid when certificates or the user cannot be used.
        """
        agent = f"phoenix-orchestrator/{package_version('phoenix-orchestrator')} ({component})"
        self.target = target
        self.manager = manager
        self._wire = Wire(target, user_agent=agent)
        self._lanes = Lane(Pool.NORMAL, normal), Lane(Pool.URGENT, urgent)
        self._caller = Caller(self._wire, self._lanes[0])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End all connections; those of `urgent` and `fenced` are the same."""
        await self._wire.close()

    @property
    def namespace(self) -> str:
        return self.target.namespace

    @property
    def urgent(self) -> KubeClient:
        """The same API server over the lane that nothing else can fill: for taking traffic away (R2)."""
        return self._through(Caller(self._wire, self._lanes[1], self._caller.fence))

    def fenced(self, fence: Fence) -> KubeClient:
        """The same, but no attempt of a write is sent unless `fence()` allows it, nor waited for longer.

        Give it `Leadership.remaining`.
        """
        return self._through(Caller(self._wire, self._caller.lane, fence))

    async def get(
        self, resource: Resource, name: str, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        """Raises NotFound, Forbidden, Retryable."""
        place = self._place(resource, namespace)
        call = Call("get", resource, place, name, subresource)
        request = Request("GET", resource.path(place, name, subresource), {})
        return await self._object(call, request, repeatable=True)

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        limit: int = PAGE,
    ) -> Page:
        """All objects at one moment, fetched in pages. For more than a few hundred use `pages`."""
        selection = Selection(resource, self._place(resource, namespace), labels, fields)
        try:
            return await self._all(selection, limit)
        except Gone:  # the moment of the first page is no longer kept
            return await self._all(selection, limit)

    async def _all(self, selection: Selection, limit: int) -> Page:
        items: list[Object] = []
        version = ""
        async for page in self.pages(selection, limit=limit):
            items += page.items
            version = page.version
        return Page(items, version)

    async def pages(
        self, selection: Selection, *, limit: int = PAGE, metadata_only: bool = False
    ) -> AsyncIterator[Page]:
        """The same, page by page. `metadata_only`: objects have nothing but `metadata`.

        Raises Gone when the reader was so slow that the moment is no longer kept.
        """
        resource, rest = selection.resource, ""
        call = Call("list", resource, selection.namespace)
        accept = _METADATA_ONLY if metadata_only else "application/json"
        while True:
            parameters = {**selection.parameters(), "limit": str(limit)}
            if rest:
                parameters["continue"] = rest
            request = Request("GET", resource.path(selection.namespace), parameters, accept=accept)
            data = await self._object(call, request, repeatable=True)
            metadata = data["metadata"]
            yield Page(data.get("items") or [], str(metadata["resourceVersion"]))
            rest = metadata.get("continue") or ""
            if not rest:
                return

    async def create(
        self, resource: Resource, body: Object, namespace: str | None = None, *, dry_run: bool = False
    ) -> Object:
        """Raises AlreadyExists; with `maybe_ours` an earlier attempt of this call may have made it.

        With `generateName` instead of a name it is not repeated unless it was surely not done.
        """
        place = self._place(resource, namespace, body)
        name = body["metadata"].get("name", "")
        call = Call("create", resource, place, name)
        request = Request("POST", resource.path(place), self._writing(dry_run), _typed(resource, body))
        return await self._object(call, request, repeatable=bool(name))

    async def apply(
        self,
        resource: Resource,
        body: Object,
        namespace: str | None = None,
        *,
        force: bool,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply: the fields of `body` are ours, those we had and left out go.

        With `force` fields of other managers are taken from them; without it that is a FieldConflict,
        and nothing is written. With `metadata.resourceVersion` in `body` it is also conditional on that.
        """
        key = key_of(body)
        place = self._place(resource, namespace, body)
        parameters = {**self._writing(dry_run), "force": "true" if force else "false"}
        request = Request(
            "PATCH",
            resource.path(place, key.name, subresource),
            parameters,
            _typed(resource, body),
            content_type="application/apply-patch+yaml",
        )
        call = Call("patch", resource, place, key.name, subresource)
        return await self._object(call, request, repeatable=True)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Patch,
        namespace: str | None = None,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """A conditional patch (`patches.py`). Raises Changed when the object is not as the patch expects.

        Of a JSON patch that cannot be applied the object is read, to tell that from a patch that is wrong.
        """
        place = self._place(resource, namespace)
        request = Request(
            "PATCH",
            resource.path(place, name, subresource),
            self._writing(dry_run),
            patch.body,
            content_type=patch.content_type,
        )
        call = Call("patch", resource, place, name, subresource)
        try:
            return await self._object(call, request, repeatable=True)
        except Unapplicable as error:
            if patch.content_type != JSON_PATCH or tests_hold(
                patch, await self.get(resource, name, place, subresource=subresource)
            ):
                raise
            raise Changed(f"{resource.kind} {name}{call.where} is not as the patch expects") from error

    async def replace(
        self,
        resource: Resource,
        body: Object,
        namespace: str | None = None,
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Put `body` in place of the version it carries. Raises Changed, and Invalid without a version."""
        key = key_of(body)
        if not body["metadata"].get("resourceVersion"):
            raise Invalid(f"{resource.kind} {key.name} is replaced without saying which version of it")
        place = self._place(resource, namespace, body)
        path = resource.path(place, key.name, subresource)
        request = Request("PUT", path, self._writing(dry_run), _typed(resource, body))
        call = Call("update", resource, place, key.name, subresource)
        return await self._object(call, request, repeatable=True)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        version: str | None = None,
        propagation: Propagation = "Background",
        grace: int | None = None,
        dry_run: bool = False,
    ) -> None:
        """Delete the object of that `uid` and, if given, `version`; grace in seconds.

        Raises Changed when it is another or has changed, NotFound. Without a `uid` a call that was
        not answered is not repeated: it could hit an object made meanwhile.
        """
        place = self._place(resource, namespace)
        conditions = {"uid": uid, "resourceVersion": version}
        body: Object = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            "preconditions": {what: value for what, value in conditions.items() if value},
        }
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        if dry_run:
            body["dryRun"] = ["All"]
        call = Call("delete", resource, place, name)
        request = Request("DELETE", resource.path(place, name), {}, body)
        await self._caller.call(call, request, repeatable=uid is not None)

    async def post(self, resource: Resource, body: Object, *, namespace: str = "") -> Object:
        """Ask a question that is put as an object and not kept, as access reviews are."""
        call = Call("create", resource, namespace)
        request = Request("POST", resource.path(namespace), {}, _typed(resource, body))
        return await self._object(call, request, repeatable=True)

    @contextlib.asynccontextmanager
    async def watch(self, selection: Selection, *, version: str, seconds: int) -> AsyncIterator[Streamed]:
        """Open a watch from `version` that the API server ends after `seconds`; with bookmarks.

        The answer may be a refusal: look at its status. Use a `Reflector`, which knows what to do then.
        """
        resource = selection.resource
        parameters = {
            **selection.parameters(),
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        call = Call("watch", resource, selection.namespace)
        request = Request("GET", resource.path(selection.namespace), parameters)
        lane = self._caller.lane
        await lane.turn()
        async with self._wire.stream(request, call, within=lane.limits.attempt) as streamed:
            yield streamed

    def selection(
        self, resource: Resource, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> Selection:
        return Selection(resource, self._place(resource, namespace), labels, fields)

    async def _object(self, call: Call, request: Request, *, repeatable: bool) -> Object:
        answer = await self._caller.call(call, request, repeatable=repeatable)
        try:
            return msgspec.json.decode(answer.body, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise Unanswered(f"the API server's answer is no JSON object ({call})") from error

    def _place(self, resource: Resource, namespace: str | None, body: Object | None = None) -> str:
        if not resource.namespaced:
            return ""
        said = body["metadata"].get("namespace") if body else None
        if said and namespace is not None and said != namespace:
            raise Invalid(f"{resource.kind} is to go to namespace {namespace}, and says {said}")
        if namespace is None:
            return str(said or self.namespace)
        return namespace

    def _writing(self, dry_run: bool) -> dict[str, str]:
        parameters = {"fieldManager": self.manager}
        if dry_run:
            parameters["dryRun"] = "All"
        return parameters

    def _through(self, caller: Caller) -> KubeClient:
        other = KubeClient.__new__(KubeClient)
        other.target, other.manager = self.target, self.manager
        other._wire, other._lanes, other._caller = self._wire, self._lanes, caller  # noqa: SLF001
        return other


def _typed(resource: Resource, body: Object) -> Object:
    return {"apiVersion": resource.api_version, "kind": resource.kind, **body}

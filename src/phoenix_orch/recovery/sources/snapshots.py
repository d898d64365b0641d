"""The volume of an application in a cluster, as a snapshot of its storage.

The application rests from before the snapshot is asked for until the storage has it. The backup's object is a
small description (`snapshot.json`): the data stays in the storage, which is no other place. What belongs to
it in the cluster goes when the backup expires: `SnapshotKeeper.forget`.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from phoenix_orch.kernel.errors import BadState, NotFound, PhoenixError, Retryable, Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import Object, Resource
from phoenix_orch.recovery import hooks
from phoenix_orch.recovery.backup_source import Capture, Facts
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.hook_spec import Quiesce
from phoenix_orch.recovery.layout import Scope
from phoenix_orch.recovery.sources.snapshot_plan import (
    CLAIMS,
    CLASSES,
    CONTENTS,
    ENGINE,
    LONGEST,
    LOST,
    OURS,
    SCOPE,
    SNAPSHOTS,
    VOLUMES,
    Taken,
    choose_class,
    driver_of,
    scope_label,
    seen,
    short,
    snapshot_of,
    statically,
    taken,
)

T = TypeVar("T")
NAME = "snapshot.json"
TIMEOUT = timedelta(minutes=10)
LOOK = 0.5
"""Seconds between two looks at a snapshot that is not ready."""
DOUBT = 20.0
"""Seconds that an error of the storage has to stand before it counts."""


class SnapshotKeeper:
    """Takes snapshots, keeps them from being lost with their namespace, finds them again, lets them go."""

    def __init__(self, client: KubeClient, *, timeout: timedelta = TIMEOUT, look: float = LOOK) -> None:
        self._client = client
        self._timeout = timeout.total_seconds()
        self._look = look

    async def take(
        self, namespace: str, claim_name: str, name: str, class_name: str, labels: Mapping[str, str]
    ) -> Taken:
        """`labels`: of the snapshot, by which it is found when this process dies.

        Raises Invalid where no snapshot can be taken of the claim, Terminal where it was not ready in time;
        then nothing of it is left."""
        claim = await self._client.get(CLAIMS, claim_name, namespace)
        volume = claim["spec"].get("volumeName")
        if not volume:
            raise BadState(f"the claim {claim_name} has no volume yet", remedy="wait until a pod uses it")
        driver = driver_of(await self._client.get(VOLUMES, volume))
        classes = (await self._client.list(CLASSES)).items
        chosen = choose_class(classes, driver, class_name)
        made = await self._client.create(SNAPSHOTS, snapshot_of(claim, name, chosen, labels), namespace)
        try:
            snapshot, content = await self.ready(namespace, made["metadata"]["name"])
            await self._policy(content["metadata"]["name"], "Retain")
        except BaseException:
            with contextlib.suppress(PhoenixError):  # what is under way says more
                await asyncio.shield(self.discard(namespace, name))
            raise
        return taken(claim, snapshot, content)

    async def ready(self, namespace: str, name: str) -> tuple[Object, Object]:
        """The snapshot and its content, when they are bound, ready to use and without an error."""
        end = time.monotonic() + self._timeout
        while True:
            snapshot = await self._client.get(SNAPSHOTS, name, namespace)
            bound = (snapshot.get("status") or {}).get("boundVolumeSnapshotContentName")
            content = await self._there(bound) if bound else None
            waiting = seen(snapshot, content)
            if waiting is None and content is not None:
                return snapshot, content
            if time.monotonic() >= end:
                reason = waiting.reason if waiting else "its content has gone"
                raise Terminal(
                    f"the snapshot {name} was not ready in {self._timeout:g} s: {reason}",
                    remedy=f"kubectl describe volumesnapshot {name} -n {namespace}",
                )
            await asyncio.sleep(self._look)

    async def found(self, one: Taken, namespace: str, suffix: str) -> str:
        """The name of a snapshot in the namespace that is ready: the first one, or one that is made anew for
        what the storage has. Idempotent for one suffix."""
        if namespace == one.namespace:
            with contextlib.suppress(NotFound):
                snapshot = await self._client.get(SNAPSHOTS, one.snapshot, namespace)
                content = await self._there(one.content)
                if seen(snapshot, content) is None:
                    return one.snapshot
        content_body, snapshot_body = statically(one, namespace, suffix)
        await self._made(CONTENTS, content_body, "")
        await self._made(SNAPSHOTS, snapshot_body, namespace)
        name = str(snapshot_body["metadata"]["name"])
        await self.ready(namespace, name)
        return name

    async def given_back(self, one: Taken, namespace: str, suffix: str) -> None:
        """Remove what `found` has made anew; the storage keeps its snapshot. Idempotent."""
        content, snapshot = (body["metadata"]["name"] for body in statically(one, namespace, suffix))
        if await self._there(content) is not None:
            await self._policy(content, "Retain")
        await self._deleted(SNAPSHOTS, snapshot, namespace)
        await self._deleted(CONTENTS, content)

    async def holds(self, one: Taken) -> str:
        """Ask the storage whether it has the snapshot still; what was found, in a line.

        Its objects in the cluster say what was true when it was taken. So a content that leads to the same
        handle is made, which the storage is asked about, and goes again; it stays where the first one is
        lost. Raises Corrupted where the storage does not have it.
        """
        body, _ = statically(one, one.namespace, LOST)
        probe = str(body["metadata"]["name"])
        await self._cleared(probe)
        await self._made(CONTENTS, body, "")
        fault = await self._settled(probe)
        lost = await self._there(one.content) is None
        if fault or not lost:
            await self._policy(probe, "Retain")
            await self._deleted(CONTENTS, probe)
        if fault:
            raise Corrupted(
                f"the storage has the snapshot {one.handle} no more: {fault}", remedy="use another backup"
            )
        if lost:
            return f"the storage has {one.handle}; the cluster had lost it, and has a content for it again"
        await self._policy(one.content, "Retain")
        return f"the storage has {one.handle}"

    async def forget(self, one: Taken) -> None:
        """Let the storage delete it. Idempotent. Where the objects are lost they are made anew first: a
        handle that nobody knows any more would be kept, and paid for, for ever."""
        try:
            await self._forgotten(one)
        except NotFound:  # they went in between: whether the storage's went with them, it is asked itself
            await self._forgotten(one)

    async def _forgotten(self, one: Taken) -> None:
        namespace, name, content = one.namespace, one.snapshot, one.content
        if await self._there(content) is None:
            content_body, _ = statically(one, namespace, LOST)
            content = content_body["metadata"]["name"]
            await self._cleared(content)
            await self._made(CONTENTS, content_body, "")
            await self._looked_up(content)
        await self._policy(content, "Delete")
        await self._deleted(SNAPSHOTS, name, namespace)
        await self._deleted(CONTENTS, content)

    async def discard(self, namespace: str, name: str) -> None:
        """A snapshot that belongs to no backup, and what the storage has of it. Idempotent."""
        snapshot = await self._client.get(SNAPSHOTS, name, namespace)
        content = (snapshot.get("status") or {}).get("boundVolumeSnapshotContentName")
        if content and await self._there(content) is not None:
            await self._policy(content, "Delete")
        await self._deleted(SNAPSHOTS, name, namespace)

    async def _cleared(self, content: str) -> None:
        """No content of that name is there: one of an earlier look, or one that is just going, says what was
        true then. The storage keeps its snapshot."""
        end = time.monotonic() + self._timeout
        while (found := await self._there(content)) is not None:
            if "deletionTimestamp" not in found["metadata"]:
                with contextlib.suppress(NotFound):
                    await self._policy(content, "Retain")
                    await self._deleted(CONTENTS, content)
            elif time.monotonic() >= end:
                raise Retryable(
                    f"the content {content} of an earlier look does not go",
                    remedy=f"kubectl describe volumesnapshotcontent {content}",
                )
            await asyncio.sleep(min(self._look, 0.1))

    async def _deleted(self, kind: Resource, name: str, namespace: str = "") -> None:
        with contextlib.suppress(NotFound):
            found = await self._client.get(kind, name, namespace)
            await self._client.delete(kind, name, namespace, uid=found["metadata"]["uid"])

    async def _settled(self, content: str) -> str:
        """What the storage says against a content; empty when it is ready. An error counts once it has stood
        for a while: one that passes says nothing of the snapshot. Raises Retryable where nothing is said."""
        end, since = time.monotonic() + self._timeout, 0.0
        while True:
            status = ((await self._there(content)) or {}).get("status") or {}
            if status.get("readyToUse") is True:
                return ""
            error = (status.get("error") or {}).get("message")
            now = time.monotonic()
            since = (since or now) if error else 0.0
            if error and now - since >= min(DOUBT, self._timeout / 2):
                return str(error)
            if now >= end:
                raise Retryable(
                    f"the storage has not looked up the snapshot of {content} in {self._timeout:g} s",
                    remedy=f"kubectl describe volumesnapshotcontent {content}",
                )
            await asyncio.sleep(self._look)

    async def _looked_up(self, content: str) -> None:
        """The storage has said whether it has the handle: a content that goes before deletes nothing."""
        end = time.monotonic() + self._timeout
        while True:
            status = ((await self._there(content)) or {}).get("status") or {}
            if status.get("snapshotHandle") or status.get("error"):
                return
            if time.monotonic() >= end:
                raise Retryable(
                    f"the storage has not looked up the snapshot of {content} in {self._timeout:g} s",
                    remedy=f"kubectl describe volumesnapshotcontent {content}",
                )
            await asyncio.sleep(self._look)

    async def _policy(self, content: str, policy: str) -> None:
        """Say what becomes of the storage's snapshot with the object; another writer is waited for."""
        for _ in range(10):
            found = await self._client.get(CONTENTS, content)
            if found["spec"]["deletionPolicy"] == policy:
                return
            try:
                await self._client.patch(
                    CONTENTS, content, merge_patch_of(found, {"spec": {"deletionPolicy": policy}})
                )
            except PhoenixError as error:
                if error.code not in {"conflict", "outdated"}:
                    raise
        raise Retryable(f"the snapshot's content {content} is written by others all the time")

    async def _there(self, content: str) -> Object | None:
        try:
            return await self._client.get(CONTENTS, content)
        except NotFound:
            return None

    async def _made(self, resource: object, body: Object, namespace: str) -> None:
        assert resource in {SNAPSHOTS, CONTENTS}
        kind = SNAPSHOTS if resource == SNAPSHOTS else CONTENTS
        try:
            await self._client.get(kind, body["metadata"]["name"], namespace)
        except NotFound:
            await self._client.create(kind, body, namespace)


class SnapshotSource:
    """One PersistentVolumeClaim. `connect` gives a client that may be used in this thread and is closed."""

    def __init__(
        self,
        scope: Scope,
        namespace: str,
        claim: str,
        *,
        connect: Callable[[], KubeClient],
        quiesce: Quiesce,
        notes: Path,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        class_name: str = "",
        timeout: timedelta = TIMEOUT,
    ) -> None:
        """`scope`: whose backup it becomes. `namespace`: of the claim."""
        self.component = scope.component
        self._scope = scope
        self._namespace = namespace
        self._claim = claim
        self._connect = connect
        self._quiesce = quiesce
        self._note = notes / f"{scope.component.replace('/', '.')}.json"
        self._now = now
        self._new_id = new_id
        self._class_name = class_name
        self._timeout = timeout

    @contextlib.contextmanager
    def capture(self) -> Iterator[Capture]:
        """Raises Invalid, Terminal. Left by an exception the snapshot is deleted in the storage, too."""
        with hooks.at_rest(self._quiesce, self._note) as rest:
            moment, backup = self._now(), self._new_id()
            name = short(f"phoenix-{self._claim}", LONGEST - len(backup) - 1) + f"-{backup}"
            labels = {OURS: backup, SCOPE: scope_label(self._scope.path)}
            one = self._run(
                lambda keeper: keeper.take(self._namespace, self._claim, name, self._class_name, labels)
            )
            try:
                rest.wake()
                yield SnapshotCapture(one, moment, rest)
            except BaseException:
                with contextlib.suppress(PhoenixError):
                    self._run(lambda keeper: keeper.forget(one))
                raise

    def _run(self, act: Callable[[SnapshotKeeper], Awaitable[T]]) -> T:
        async def acting() -> T:
            async with self._connect() as client:
                return await act(SnapshotKeeper(client, timeout=self._timeout))

        return asyncio.run(acting())


class SnapshotCapture:
    """The description of a snapshot that is ready."""

    name = NAME

    def __init__(self, one: Taken, moment: datetime, rest: hooks.Rest) -> None:
        self.taken = one
        self._moment = moment
        self._rest = rest
        stored = one.stored()
        self.estimate = len(stored)
        self._content = io.BytesIO(stored)
        self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        read = self._content.read(size)
        self._ended = self._ended or not read or size < 0
        return read

    def facts(self) -> Facts:
        if not self._ended:
            raise BadState("the description was not read to its end")
        one = self.taken
        return Facts(
            consistency_point=self._moment,
            engine={"name": ENGINE, "driver": one.driver, "class": one.snapshot_class},
            content={
                "snapshotHandle": one.handle,
                "restoreSize": one.restore_size,
                "createdByStorage": one.created,
                "dataInStorage": True,
            },
            source={
                "namespace": one.namespace,
                "claim": one.claim,
                "snapshot": one.snapshot,
                "content": one.content,
                "volumeMode": one.volume_mode,
            },
            hooks=tuple(result.fact() for result in self._rest.results),
        )

"""What restores have kept of before, and its deletion by a person: in a namespace, or beside a folder."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from phoenix_orch.kernel.errors import Outdated
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.recovery.restore import files_restore
from phoenix_orch.recovery.restore.kept import KeptStates
from phoenix_orch.recovery.restore.kept_plan import Kept
from phoenix_orch.recovery.signing import canonical
from phoenix_orch.rollout.spec import Model

FOLDER = "Folder"
HASH = 10
"""Characters of the hash that a person types."""
Around = Callable[["KeptList"], AbstractContextManager[dict[str, Any]]]
Tell = Callable[[str], None]


class KeptState(Model):
    """One state of before a restore."""

    kind: str
    """`PersistentVolume`, `PersistentVolumeClaim`, `Folder`."""
    name: str
    of: str
    """The claim or the folder whose state it was."""
    until: datetime | None
    """None: for ever."""
    size: int
    """Bytes that it may hold; 0: not known."""
    stays: str
    """Why it does not go; empty: it may."""


class KeptList(Model):
    """All of one place."""

    where: str
    """A namespace, or a folder."""
    kept: tuple[KeptState, ...]
    hash: str
    """To confirm that all that may go goes; empty: nothing may."""
    deleted: tuple[str, ...] = ()
    """What has gone by this."""

    @property
    def going(self) -> tuple[KeptState, ...]:
        return tuple(one for one in self.kept if not one.stays)


class Keeping(Protocol):
    """A place with states that were kept."""

    where: str

    async def found(self, now: datetime) -> Sequence[Kept]: ...

    async def delete(self, one: Kept) -> None: ...


class FolderStates:
    """Beside one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self.where = str(self._folder)

    async def found(self, now: datetime) -> Sequence[Kept]:
        place = files_restore.Place(self._folder)
        # of a deletion that died: it goes on
        made = [Kept(FOLDER, str(one), self.where, None, 0, "", version=one.name) for one in place.left()]
        for old in place.olds():
            until, stays = files_restore.expiry(old), ""
            if until is None:
                stays = "nothing says until when it is kept"
            elif now < until:
                stays = "its time has not come"
            made.append(Kept(FOLDER, str(old), self.where, until, 0, stays, version=old.name))
        return made

    async def delete(self, one: Kept) -> None:
        await asyncio.to_thread(files_restore.forget, self._folder, Path(one.name))


def in_folder(
    folder: Path,
    confirmed: str = "",
    *,
    around: Around = lambda _: nullcontext({}),
    tell: Tell = lambda _: None,
) -> KeptList:
    """Raises BadState while a restore of it runs, Outdated."""
    return asyncio.run(done(FolderStates(folder), confirmed, around, tell))


def in_cluster(
    access: Access,
    confirmed: str = "",
    *,
    within: timedelta,
    around: Around = lambda _: nullcontext({}),
    tell: Tell = lambda _: None,
) -> KeptList:
    """`within`: the storage deletes each in so long. Raises Forbidden, Retryable, Outdated, Terminal."""

    async def act() -> KeptList:
        target = load(access.kubeconfig, context=access.context, namespace=access.namespace)
        async with KubeClient(target, component="person") as client:
            states = KeptStates(client, client.namespace, timeout=within)
            return await done(states, confirmed, around, tell)

    return asyncio.run(act())


async def done(
    place: Keeping,
    confirmed: str,
    around: Around = lambda _: nullcontext({}),
    tell: Tell = lambda _: None,
) -> KeptList:
    """Look; and delete what may go where that is what was confirmed. Raises Outdated where it is not."""
    now = datetime.now(UTC)
    found = await place.found(now)
    listed = _listed(place.where, found)
    if not confirmed:
        return listed
    if listed.hash != confirmed:
        raise Outdated(
            f"what may go is {listed.hash or 'nothing'} by now, and {confirmed} was confirmed",
            remedy="look again: phoenix restore kept",
        )
    gone = list[str]()
    with around(listed) as told:
        try:
            for one in found:
                if not one.stays:
                    tell(f"{one.kind} {one.name} goes")
                    await place.delete(one)
                    gone.append(one.name)
        finally:
            told.update(deleted=gone)
    return listed.model_copy(update={"deleted": tuple(gone)})


def _listed(where: str, found: Sequence[Kept]) -> KeptList:
    going = [[one.kind, one.name, one.uid or one.version] for one in found if not one.stays]
    hash_ = hashlib.sha256(canonical({"where": where, "going": going})).hexdigest()[:HASH]
    return KeptList(
        where=where,
        kept=tuple(
            KeptState(
                kind=one.kind, name=one.name, of=one.of, until=one.until, size=one.size, stays=one.stays
            )
            for one in found
        ),
        hash=hash_ if going else "",
    )

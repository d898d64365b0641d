"""Whether the state of a Phoenix is whole: its data directory, its store, its rollouts, its audit log.

For after a restore, on the volume that was restored or in the pod that has it, and for any other time:
nothing is written and nothing is started. Of a store that does not run the files are checked.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from phoenix_orch.kernel.clock import RealClock
from phoenix_orch.kernel.errors import PhoenixError, Retryable
from phoenix_orch.kernel.text import counted
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.resources import ROLLOUTS
from phoenix_orch.orchestrator.kept_config import read_kept
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.consistency import aof_fault, checked, faults, json_fault
from phoenix_orch.recovery.consistency_spec import FileCheck
from phoenix_orch.recovery.restore.files_restore import Place, expiry
from phoenix_orch.recovery.sources.tree import OURS
from phoenix_orch.recovery.verify_state import Part, PartState, StateReport, reported
from phoenix_orch.rollout.store.kubernetes import KubernetesStore
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.rollout.store.valkey import ValkeyStore
from phoenix_orch.runtime.valkey_name import NameFile
from phoenix_orch.runtime.valkey_server import ValkeyServer
from phoenix_orch.security.audit_log import AuditLog

RESTORE = "restore the newest backup that is verified: docs/runbooks/state-recovery.md"


def verify_embedded(layout: Layout, store_url: str | None = None) -> StateReport:
    """The state in a data directory. `store_url`: the store, where it is not the one in the directory."""
    parts = [_looked("directory", lambda: _directory(layout))]
    if parts[0].state is PartState.WHOLE:
        parts += [
            _looked("files", lambda: _files(layout)),
            _looked("configuration", lambda: _configuration(layout)),
            _looked("audit", lambda: _audit(layout)),
            *_store(layout, store_url),
            _looked("earlier", lambda: _earlier(layout)),
        ]
    return reported(parts)


def verify_folder(folder: Path, checks: Sequence[FileCheck]) -> StateReport:
    """The state of an application: each name can be reached, and what it says of its files holds."""
    parts = [_looked("names", lambda: _names(folder))]
    if parts[0].state is PartState.WHOLE and checks:
        parts.append(_looked("checks", lambda: _checks(folder, checks)))
    return reported(parts)


def verify_in_cluster(store_url: str | None) -> StateReport:
    """The state of a Phoenix in a cluster, as one of its pods sees it: its store, its Rollouts."""
    parts: list[Part] = []
    if store_url is not None:
        parts.append(_looked("store", lambda: _answers(store_url)))
    else:
        parts.append(Part(name="store", state=PartState.ABSENT, detail="none is named: PHOENIX_STORE"))
    parts.append(_looked("rollouts", lambda: asyncio.run(_rollouts_in_cluster(store_url))))
    return reported(parts)


def in_pod() -> bool:
    """Whether this process is a pod that may ask the API server."""
    token = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    return "KUBERNETES_SERVICE_HOST" in os.environ and token.exists()


def _looked(name: str, look: Callable[[], Part]) -> Part:
    try:
        return look()
    except Retryable as error:
        return Part(name=name, state=PartState.UNKNOWN, detail=error.message, remedy=error.remedy)
    except PhoenixError as error:
        return Part(name=name, state=PartState.BROKEN, detail=error.message, remedy=error.remedy or RESTORE)
    except OSError as error:
        detail = f"cannot be read: {error.strerror}"
        return Part(
            name=name, state=PartState.UNKNOWN, detail=detail, remedy="run this as the user of Phoenix"
        )


def _directory(layout: Layout) -> Part:
    try:
        names = os.listdir(layout.root)  # noqa: PTH208 - an error that says why is wanted
    except (FileNotFoundError, NotADirectoryError):
        detail = f"there is no {layout.root}: no Phoenix has been started here"
        remedy = f"name its data directory with --data-dir; where that is lost, {RESTORE}"
        return Part(name="directory", state=PartState.BROKEN, detail=detail, remedy=remedy)
    missing = [name for name in ("valkey", "router") if name not in names]
    if missing:
        detail = f"{layout.root} has no {' and no '.join(missing)}: no Phoenix has been started here"
        return Part(name="directory", state=PartState.BROKEN, detail=detail, remedy=RESTORE)
    return Part(
        name="directory", state=PartState.WHOLE, detail=f"{layout.root}, {counted(len(names), 'name')}"
    )


def _names(folder: Path) -> Part:
    """Raises OSError for a folder, or a name in it, that cannot be reached."""
    count = 0

    def failed(error: OSError) -> None:
        raise error

    for place, _, files in os.walk(folder, onerror=failed):
        for name in files:
            os.lstat(os.path.join(place, name))  # noqa: PTH118 - names need not be text
        count += len(files)
    return Part(name="names", state=PartState.WHOLE, detail=f"{counted(count, 'file')} seen")


def _checks(folder: Path, checks: Sequence[FileCheck]) -> Part:
    findings = checked(folder, checks)
    if wrong := faults(findings):
        return Part(name="checks", state=PartState.BROKEN, detail=wrong, remedy=RESTORE)
    return Part(name="checks", state=PartState.WHOLE, detail=f"{len(findings)} hold")


def _files(layout: Layout) -> Part:
    """Everything that Phoenix keeps as JSON beside its store."""
    found = sorted(file for file in layout.root.glob("*.json") if not file.name.startswith(OURS))
    wrong = [(file.name, fault) for file in found if (fault := json_fault(file))]
    if wrong:
        detail = "; ".join(f"{name}: {fault}" for name, fault in wrong)
        return Part(name="files", state=PartState.BROKEN, detail=detail, remedy=RESTORE)
    return Part(name="files", state=PartState.WHOLE, detail=f"{counted(len(found), 'file')} of JSON")


def _configuration(layout: Layout) -> Part:
    config = read_kept(layout.config)
    if config is None:
        return Part(name="configuration", state=PartState.ABSENT, detail="none was applied yet")
    return Part(
        name="configuration",
        state=PartState.WHOLE,
        detail=f"{counted(len(config.rollouts), 'rollout')} declared",
    )


def _audit(layout: Layout) -> Part:
    if not layout.audit.is_dir():
        return Part(name="audit", state=PartState.ABSENT, detail="nothing was recorded yet")
    found = AuditLog(layout.audit).verify()
    if found.holds:
        detail = f"{counted(found.records, 'record')} in one chain"
        return Part(name="audit", state=PartState.WHOLE, detail=detail)
    first = found.faults[0]
    return Part(
        name="audit",
        state=PartState.BROKEN,
        detail=f"{counted(len(found.faults), 'fault')}; the first in {first.file}: {first.fault.detail}",
        remedy="`phoenix audit verify` shows all of them",
    )


def _store(layout: Layout, store_url: str | None) -> list[Part]:
    """It and the rollouts in it where it runs, its files where it does not."""
    runs = ValkeyServer(layout.valkey).runs()
    url = store_url or (NameFile(layout.valkey).state().socket if runs else None)
    if url is None:
        return [_looked("store", lambda: _store_files(layout))]
    return [
        _looked("store", lambda: _answers(url)),
        _looked("rollouts", lambda: asyncio.run(_closed(ValkeyStore(url)))),
    ]


def _answers(url: str) -> Part:
    async def ping() -> None:
        store = ValkeyStore(url)
        try:
            await store.rollouts()
        finally:
            await store.close()

    asyncio.run(ping())
    return Part(name="store", state=PartState.WHOLE, detail="it answers")


def _store_files(layout: Layout) -> Part:
    manifests = sorted((layout.valkey / "appendonlydir").glob("*.manifest"))
    if not manifests:
        detail = f"{layout.valkey} has no append-only file"
        return Part(name="store", state=PartState.BROKEN, detail=detail, remedy=RESTORE)
    fault = aof_fault(manifests[0])
    if fault:
        return Part(name="store", state=PartState.BROKEN, detail=fault, remedy=RESTORE)
    return Part(name="store", state=PartState.WHOLE, detail="it does not run; its append-only file is whole")


async def _closed(store: ValkeyStore) -> Part:
    try:
        return await _rollouts(store)
    finally:
        await store.close()


async def _rollouts(store: RolloutStore) -> Part:
    """Each can be decoded."""
    found = await store.rollouts()
    return Part(name="rollouts", state=PartState.WHOLE, detail=f"{len(found)} can be read")


async def _rollouts_in_cluster(store_url: str | None) -> Part:
    log = ValkeyStore(store_url or "redis://127.0.0.1:1")  # the list does not ask it
    try:
        async with KubeClient(load(), component="verify-state") as client:
            there = {one["metadata"]["name"] for one in (await client.list(ROLLOUTS)).items}
            store = KubernetesStore(client, log, namespace=client.namespace, clock=RealClock())
            unread = there - {rollout.name for rollout in await store.rollouts()}
    finally:
        await log.close()
    if unread:
        names = ", ".join(sorted(unread))
        return Part(
            name="rollouts",
            state=PartState.BROKEN,
            detail=f"not to be read: {names}",
            remedy="kubectl describe rollout tells why; restore the configuration, or mend them",
        )
    return Part(name="rollouts", state=PartState.WHOLE, detail=f"{len(there)} can be read")


def _earlier(layout: Layout) -> Part:
    """What restores have kept of before."""
    olds = Place(layout.root).olds()
    if not olds:
        return Part(name="earlier", state=PartState.ABSENT, detail="nothing is kept from before a restore")
    ends = [f"{old.name} until {at:%Y-%m-%d %H:%M} UTC" if (at := expiry(old)) else old.name for old in olds]
    return Part(name="earlier", state=PartState.WHOLE, detail="; ".join(ends))
